"""One-to-many assignment as the text of MS-DETR's supplement describes it."""

from __future__ import annotations

import torch
from torch import Tensor

from ..registry import ASSIGNERS
from ..structures import Targets
from .selection import favourites, top_k_first
from .top_k import Slots, TopKAssigner


@ASSIGNERS.register()
class BestObjectTopKAssigner(TopKAssigner):
    """Every query belongs to the object it scores highest with; an object keeps its ``k`` best.

    Queries below ``threshold`` belong to none (at the threshold they do).  So a query has at most
    one object; an object may stay without a query.  Source: supplement of MS-DETR, section C.
    """

    def select(self, score_GN: Tensor, targets: Targets) -> Slots:
        best_BN, object_BN = favourites(score_GN, targets)
        objects, queries = score_GN.shape
        # One row more than objects: images without objects write there.
        own_GN = score_GN.new_full((objects + 1, queries), -1.0)
        own_GN[object_BN, torch.arange(queries, device=score_GN.device)] = best_BN
        score_GK, query_GK = top_k_first(own_GN[:objects], self.k)
        # A threshold is at least 0, above the -1 of queries that belong elsewhere.
        return Slots(query_GK, score_GK, score_GK >= self.threshold)
