"""Box losses, over the assigned pairs."""

from __future__ import annotations

from torch import Tensor

from ..overlap import generalized_iou
from ..registry import LOSSES
from ..structures import Assignment, LayerPredictions, Targets
from .term import LossTerm


def paired_boxes(
    predictions: LayerPredictions, targets: Targets, assignment: Assignment
) -> tuple[Tensor, Tensor]:
    """Predicted and true boxes (P, 4) of the pairs, as (cx, cy, w, h).

    Slots without a pair predict the truth: they have no loss and no gradient.
    """
    predicted = predictions.boxes_BN4[assignment.image_P, assignment.query_P]
    true = targets.boxes_G4[assignment.target_P].to(predicted.dtype)
    pair_P1 = assignment.valid_P[:, None]
    # torch.where would do, but its gradient copies a zero from the host and waits for it.
    return predicted.masked_fill(~pair_P1, 0.0) + true.masked_fill(pair_P1, 0.0), true


@LOSSES.register()
class L1Loss(LossTerm):
    """Absolute differences of (cx, cy, w, h), summed."""

    def __call__(
        self, predictions: LayerPredictions, targets: Targets, assignment: Assignment
    ) -> Tensor:
        predicted, true = paired_boxes(predictions, targets, assignment)
        return (predicted - true).abs().sum() / assignment.normalizer


@LOSSES.register()
class GIoULoss(LossTerm):
    """1 - generalised IoU, summed over the pairs."""

    def __call__(
        self, predictions: LayerPredictions, targets: Targets, assignment: Assignment
    ) -> Tensor:
        predicted, true = paired_boxes(predictions, targets, assignment)
        # True boxes have an area (the data checks see to it): the division needs no guard.
        return (1 - generalized_iou(predicted, true)).sum() / assignment.normalizer
