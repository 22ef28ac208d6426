"""What the one-to-many assigners of MS-DETR share."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..arguments import require_number
from ..overlap import corners_of
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
        normalizer = targets.num_boxes
        for values in (predictions.boxes_BN4, predictions.logits_BNK):
            # Zero times the largest one is NaN if some value of the layer is NaN or infinite.
            values_DX = values.reshape(predictions.layers, -1)
            normalizer = normalizer.add(values_DX.abs().amax(1), alpha=0)
        return Assignment(image_P, query_P, target_P, valid_P, labelled_P, normalizer)

    def scores(self, predictions: LayerPredictions, targets: Targets) -> Tensor:
        """Score (G, N) of every object with every query of its image."""
        image_G = targets.image_G
        x0, y0, x1, y1 = corners_of(predictions.boxes_BN4).unbind()
        true_x0, true_y0, true_x1, true_y1 = targets.corners_4G[..., None].unbind()
        # (G, N) is large: memory for it is asked for four times, then everything is done in place.
        iou, free = x1.index_select(0, image_G), x0.index_select(0, image_G)
        iou.clamp_(max=true_x1).sub_(free.clamp_(min=true_x0)).clamp_(min=0)
        height = y1.index_select(0, image_G).clamp_(max=true_y1)
        torch.index_select(y0, 0, image_G, out=free)
        iou.mul_(height.sub_(free.clamp_(min=true_y0)).clamp_(min=0))
        torch.index_select((x1 - x0) * (y1 - y0), 0, image_G, out=free)
        free.add_((true_x1 - true_x0) * (true_y1 - true_y0))
        iou.div_(free.sub_(iou))
        logits_GN = predictions.logits_BNK.transpose(1, 2)[image_G, targets.labels_G]
        probability_GN = logits_GN.to(iou.dtype).sigmoid_()
        return iou.mul_(1 - self.alpha).add_(probability_GN.mul_(self.alpha))

    def select(self, score_GN: Tensor, targets: Targets) -> Slots:
        """Which queries every object is given.

        Args:
            score_GN: see :meth:`scores`; may be overwritten.
            targets: objects of the batch.
        """
        raise NotImplementedError
