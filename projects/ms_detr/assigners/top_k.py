"""One-to-many assignment of MS-DETR."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import box_convert, box_iou

from ..registry import ASSIGNERS
from .assigner import Assigner, Pairs


@ASSIGNERS.register()
class ReleasedTopKAssigner(Assigner):
    """Up to ``k`` best queries per object, as the code released with MS-DETR finds them.

    The score of a pair is ``(1 - alpha) * IoU + alpha * class probability``.  A query is positive
    for the object it scores highest with if that score reaches ``threshold``, or if it is some
    object's best query (it keeps its own favourite all the same).  An object with c positive
    queries is then given its min(c, k) best queries out of *all* queries.  So a query may be given
    to two objects: it learns both boxes, and the class of the better pair.  An object may stay
    without a query.  The paper's supplement (section C, Algorithm 1) describes a simpler rule.

    The released code cuts positives beyond a quarter of the queries at random; here the best
    scores stay, so that the same predictions always give the same pairs.

    Args:
        k: most queries of an object.
        threshold: lowest score of a positive query, in [0, 1].
        alpha: weight of the class probability in the score, in [0, 1].
        positive_fraction: most positive queries, as a share of the queries, in (0, 1]; at least
            one query may always be positive.
    """

    def __init__(
        self,
        *,
        k: int = 6,
        threshold: float = 0.4,
        alpha: float = 0.3,
        positive_fraction: float = 0.25,
    ):
        if not isinstance(k, int) or k < 1:
            raise ValueError(f"k must be a whole number of at least 1, got {k}")
        for name, value in (("threshold", threshold), ("alpha", alpha)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {value}")
        if not 0 < positive_fraction <= 1:
            raise ValueError(f"positive_fraction must be in (0, 1], got {positive_fraction}")
        self.k, self.threshold, self.alpha = k, threshold, alpha
        self.positive_fraction = positive_fraction

    def scores(
        self, logits_NK: Tensor, boxes_N4: Tensor, labels_G: Tensor, boxes_G4: Tensor
    ) -> Tensor:
        """Score (G, N) of every pair of one image, in [0, 1]."""
        iou_GN = box_iou(
            box_convert(boxes_G4, "cxcywh", "xyxy"), box_convert(boxes_N4, "cxcywh", "xyxy")
        )
        probability_GN = logits_NK[:, labels_G].sigmoid().T
        return (1 - self.alpha) * iou_GN + self.alpha * probability_GN

    def match(
        self, logits_NK: Tensor, boxes_N4: Tensor, labels_G: Tensor, boxes_G4: Tensor
    ) -> Pairs:
        if len(labels_G) == 0:
            empty = torch.zeros(0, dtype=torch.int64, device=logits_NK.device)
            return Pairs(empty, empty, empty.bool())
        score_GN = self.scores(logits_NK, boxes_N4, labels_G, boxes_G4)
        self.require_finite(score_GN)
        wanted_G = self._positives_per_object(score_GN)
        rank_GN = ranks(score_GN)
        taken_GN = rank_GN < wanted_G.clamp(max=self.k)[:, None]
        target_P, query_P = taken_GN.nonzero(as_tuple=True)
        # The best pair of a query owns its label; of equal ones the first object's.
        taken_score_GN = score_GN.masked_fill(~taken_GN, -1.0)
        best_GN = taken_score_GN == taken_score_GN.amax(0)
        owner_GN = best_GN & (best_GN.cumsum(0) == 1)
        return Pairs(query_P, target_P, owner_GN[target_P, query_P])

    def _positives_per_object(self, score_GN: Tensor) -> Tensor:
        best_score_N, favourite_N = first_max(score_GN)
        positive_N = best_score_N >= self.threshold
        # Of exactly equal queries topk takes the one that the published code takes (on a CPU).
        positive_N[score_GN.topk(1, dim=1)[1]] = True
        limit = max(1, int(self.positive_fraction * len(positive_N)))
        positive_N &= ranks(best_score_N.masked_fill(~positive_N, -1.0)[None])[0] < limit
        return torch.bincount(favourite_N, positive_N.to(score_GN.dtype), len(score_GN))


def ranks(score_GN: Tensor) -> Tensor:
    """Place (G, N) of every entry in its row, 0 for the largest; equal entries keep their order."""
    order_GN = score_GN.sort(dim=1, descending=True, stable=True)[1]
    place_N = torch.arange(score_GN.shape[1], device=score_GN.device)
    return torch.empty_like(order_GN).scatter_(1, order_GN, place_N.expand_as(order_GN))


def first_max(score_GN: Tensor) -> tuple[Tensor, Tensor]:
    """Largest value of every column and its row; of equal ones the first row, on any device."""
    value_N = score_GN.amax(0)
    return value_N, (score_GN == value_N).to(torch.uint8).argmax(0)
