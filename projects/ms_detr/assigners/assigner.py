"""The interface of assigners."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import NonFiniteError
from ..structures import Assignment, LayerPredictions, Targets


class Pairs(NamedTuple):
    """Pairs of one image: indices of query and object, and which pair owns its query's label."""

    query_P: Tensor
    target_P: Tensor
    labelled_P: Tensor


class Assigner:
    """Pairs queries with objects, image by image, without gradients.

    Subclasses say what happens inside one image.  Losses are divided by the number of objects
    (:attr:`Targets.num_boxes`), as in the published code, for one-to-one and one-to-many alike.
    """

    @torch.no_grad()
    def __call__(self, predictions: LayerPredictions, targets: Targets) -> Assignment:
        """Assign.

        Args:
            predictions: of one decoder layer, or of the encoder's tokens.
            targets: objects of the batch.

        Raises:
            NonFiniteError: predictions hold NaN or infinity, so that nothing can be ranked.
        """
        pairs, first = [], 0
        for image, count in enumerate(targets.counts):
            objects = slice(first, first + count)
            logits_NK = predictions.logits_BNK[image].detach()
            boxes_N4 = predictions.boxes_BN4[image].detach()
            found = self.match(
                logits_NK, boxes_N4, targets.labels_G[objects], targets.boxes_G4[objects]
            )
            pairs.append(
                (torch.full_like(found.query_P, image), found.query_P, found.target_P + first)
                + (found.labelled_P,)
            )
            first += count
        image_P, query_P, target_P, labelled_P = map(torch.cat, zip(*pairs))
        return Assignment(image_P, query_P, target_P, labelled_P, targets.num_boxes)

    def match(
        self, logits_NK: Tensor, boxes_N4: Tensor, labels_G: Tensor, boxes_G4: Tensor
    ) -> Pairs:
        """Pairs of one image; G may be 0.  Boxes are (cx, cy, w, h)."""
        raise NotImplementedError

    @staticmethod
    def require_finite(values: Tensor) -> None:
        """Refuse to rank what has no order."""
        if not torch.isfinite(values).all():
            raise NonFiniteError("class logits or boxes of the predictions are NaN or infinite")
