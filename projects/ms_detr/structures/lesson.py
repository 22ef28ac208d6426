"""What a supervision teaches, before any loss is computed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .predictions import Assignment, LayerPredictions
from .targets import Targets


@dataclass(frozen=True)
class Lesson:
    """Who is taught what, in all layers; and what several loss terms want to know of it.

    Attributes:
        predictions: of all layers, as images of one batch.
        targets: objects of these images.
        assignment: who answers what.
    """

    predictions: LayerPredictions
    targets: Targets
    assignment: Assignment

    @cached_property
    def elsewhere_DP(self) -> Tensor:
        """True for slots of other layers."""
        image_P = self.assignment.image_P
        layer_D1 = torch.arange(self.predictions.layers, device=image_P.device)[:, None]
        return image_P.div(self.predictions.images, rounding_mode="floor") != layer_D1

    @cached_property
    def boxes_2P4(self) -> Tensor:
        """Predicted and true boxes (2, P, 4) of the slots, as (cx, cy, w, h).

        Slots without a pair predict the truth: they have no loss and no gradient.
        """
        assignment = self.assignment
        predicted = self.predictions.boxes_BN4[assignment.image_P, assignment.query_P]
        true = self.targets.boxes_G4[assignment.target_P].to(predicted.dtype)
        pair_P1 = assignment.valid_P[:, None]
        # torch.where would do, but its gradient copies a zero from the host and waits for it.
        predicted = predicted.masked_fill(~pair_P1, 0.0) + true.masked_fill(pair_P1, 0.0)
        return torch.stack([predicted, true])

    def mean_by_layer(self, loss_P: Tensor) -> Tensor:
        """Sums (layers,) of what is lost with every layer's slots, divided by the normaliser."""
        loss_DP = loss_P.expand_as(self.elsewhere_DP).masked_fill(self.elsewhere_DP, 0.0)
        return loss_DP.sum(1) / self.assignment.normalizer
