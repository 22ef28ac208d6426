"""One-to-one assignment (DETR, section 3.1)."""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ..registry import ASSIGNERS
from .assigner import Assigner, Pairs
from .costs import MatchCosts


@ASSIGNERS.register()
class HungarianAssigner(Assigner):
    """The cheapest set of pairs in which every query and every object occurs at most once.

    With more objects than queries, the objects that are dearest to answer stay without a query.

    Args:
        costs: price of a pair.
    """

    def __init__(self, *, costs: MatchCosts):
        self.costs = costs

    def match(
        self, logits_NK: Tensor, boxes_N4: Tensor, labels_G: Tensor, boxes_G4: Tensor
    ) -> Pairs:
        device = logits_NK.device
        if len(labels_G) == 0:
            empty = torch.zeros(0, dtype=torch.int64, device=device)
            return Pairs(empty, empty, empty.bool())
        cost_NG = self.costs(logits_NK, boxes_N4, labels_G, boxes_G4).cpu()
        self.require_finite(cost_NG)
        query, target = (torch.from_numpy(i).to(device) for i in linear_sum_assignment(cost_NG))
        order = target.argsort()
        return Pairs(query[order], target[order], torch.ones_like(query, dtype=torch.bool))
