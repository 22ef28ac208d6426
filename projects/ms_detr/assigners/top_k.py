"""What the one-to-many assigners of MS-DETR share."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..arguments import require_number
from ..overlap import area_of_corners, corners_of
from ..structures import Assignment, LayerPredictions, Targets
from .assigner import Assigner
from .selection import label_owners


class Slots(NamedTuple):
    """Slots (G, K) of every object, best first: query, score, and whether the slot is a pair."""

    query_GK: Tensor
    score_GK: Tensor
    valid_GK: Tensor


class TopKAssigner(Assigner):
    """Gives every object up to ``k`` queries of high score.

    The score of a query and an object of its image is
    ``(1 - alpha) * IoU + alpha * probability of the object's class``, in [0, 1] (supplement of
    MS-DETR, section C).  Subclasses say which queries an object may have.  A query with several
    objects learns all their boxes, and the class of the one it scores highest with.

    Works on all images and objects at once and never waits for the device.  So it cannot raise for
    predictions that are NaN or infinite: it makes ``normalizer`` NaN, and with it every loss.
    Equal scores: the query, and the object, of the lowest index is preferred.

    Args:
        k: most queries of an object.
        threshold: score that a query must reach, in [0, 1].
        alpha: weight of the class probability in the score, in [0, 1].
    """

    def __init__(self, *, k: int = 6, threshold: float = 0.4, alpha: float = 0.3):
        if not isinstance(k, int) or isinstance(k, bool) or k < 1:
            raise ValueError(f"k must be a whole number of at least 1, got {k!r}")
        require_number("threshold", threshold, 0, 1)
        require_number("alpha", alpha, 0, 1)
        self.k, self.threshold, self.alpha = k, threshold, alpha

    @torch.no_grad()
    def __call__(self, predictions: LayerPredictions, targets: Targets) -> Assignment:
        """Assign; returns G * min(k, N) slots, by object and then by falling score."""
        slots = self.select(self.scores(predictions, targets), targets)
        images, queries = predictions.boxes_BN4.shape[:2]
        query_P, valid_P = slots.query_GK.flatten(), slots.valid_GK.flatten()
        index_G = torch.arange(len(targets.labels_G), device=query_P.device)
        target_P = index_G[:, None].expand_as(slots.query_GK).flatten()
        image_P = targets.image_G[target_P]
        labelled_P = label_owners(
            image_P * queries + query_P, slots.score_GK.flatten(), valid_P, images * queries
        )
        finite = is_finite(predictions.boxes_BN4) & is_finite(predictions.logits_BNK)
        normalizer = targets.num_boxes.masked_fill(~finite, float("nan"))
        return Assignment(image_P, query_P, target_P, valid_P, labelled_P, normalizer)

    def scores(self, predictions: LayerPredictions, targets: Targets) -> Tensor:
        """Score (G, N) of every object with every query of its image."""
        boxes_BN4 = predictions.boxes_BN4
        dtype = torch.promote_types(boxes_BN4.dtype, torch.float32)
        image_G = targets.image_G
        true_G1 = corners_of(targets.boxes_G4[:, None].to(dtype))
        corners_BN = corners_of(boxes_BN4.to(dtype))
        x0, y0, x1, y1 = corners_BN
        # (G, N) is large: memory for it is asked for four times, then everything is done in place.
        iou, free = x1.index_select(0, image_G), x0.index_select(0, image_G)
        iou.clamp_(max=true_G1[2]).sub_(free.clamp_(min=true_G1[0])).clamp_(min=0)
        height = y1.index_select(0, image_G).clamp_(max=true_G1[3])
        torch.index_select(y0, 0, image_G, out=free)
        iou.mul_(height.sub_(free.clamp_(min=true_G1[1])).clamp_(min=0))
        torch.index_select(area_of_corners(corners_BN), 0, image_G, out=free)
        iou.div_(free.add_(area_of_corners(true_G1)).sub_(iou))
        logits_GN = predictions.logits_BNK.transpose(1, 2)[image_G, targets.labels_G]
        probability_GN = logits_GN.to(dtype).sigmoid_()
        return iou.mul_(1 - self.alpha).add_(probability_GN.mul_(self.alpha))

    def select(self, score_GN: Tensor, targets: Targets) -> Slots:
        """Which queries every object is given.

        Args:
            score_GN: see :meth:`scores`; may be overwritten.
            targets: objects of the batch.
        """
        raise NotImplementedError


def is_finite(values: Tensor) -> Tensor:
    """(), False if some value is NaN or infinite, which its extremes tell."""
    low, high = values.aminmax()
    return (high.double() - low.double()).isfinite()
