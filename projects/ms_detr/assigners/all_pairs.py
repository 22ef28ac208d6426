"""One-to-many assignment as MS-DETR's Algorithm 1 writes it."""

from __future__ import annotations

from torch import Tensor

from ..registry import ASSIGNERS
from ..structures import Targets
from .selection import top_k_first
from .top_k import Slots, TopKAssigner


@ASSIGNERS.register()
class AllPairsTopKAssigner(TopKAssigner):
    """Every object looks at all queries and keeps its ``k`` best of a score *above* ``threshold``.

    Objects do not know of each other, so that a query may be given to several.  An object may stay
    without a query.  Source: supplement of MS-DETR, Algorithm 1 (lines 8 to 20).
    """

    def select(self, score_GN: Tensor, targets: Targets) -> Slots:  # noqa: ARG002
        score_GK, query_GK = top_k_first(score_GN, self.k)
        return Slots(query_GK, score_GK, score_GK > self.threshold)
