"""Prices of answering an object with a query, for the Hungarian assigner."""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor

from ..arguments import require_kind, require_number
from ..overlap import corners_of, generalized_iou, planes_of
from ..registry import MATCH_COSTS
from ..structures import LayerPredictions, Targets
from .mask_costs import MaskMatchCost, mask_prices

# Pairs that are priced at the same time: their intermediate results take up to 160 MB in float32.
_PAIRS = 2**21


class MatchCost:
    """A price; lower is better.

    Args:
        weight: factor of the price in the sum, at least 0.
    """

    def __init__(self, weight: float):
        require_number(f"weight of {type(self).__name__}", weight, 0)
        self.weight = weight

    def __call__(self, predictions: LayerPredictions, targets: Targets) -> Tensor:
        """Unweighted price (G, N) of every object with every query of its own image."""
        raise NotImplementedError


@MATCH_COSTS.register()
class FocalCost(MatchCost):
    """Focal loss of calling the query the object's class, less that of calling it background.

    Args:
        weight: factor.
        alpha: of the focal loss, in [0, 1].
        gamma: of the focal loss, at least 0.
    """

    def __init__(self, weight: float, alpha: float = 0.25, gamma: float = 2.0):
        super().__init__(weight)
        require_number("alpha of FocalCost", alpha, 0, 1)
        require_number("gamma of FocalCost", gamma, 0)
        self.alpha, self.gamma = alpha, gamma

    def __call__(self, predictions: LayerPredictions, targets: Targets) -> Tensor:
        # Only the columns of the objects' classes are needed; 1e-8 is the published guard of log.
        p = predictions.logits_BNK.transpose(1, 2)[targets.image_G, targets.labels_G].sigmoid()
        q = 1 - p
        positive = self.alpha * q**self.gamma * (p + 1e-8).log()
        negative = (1 - self.alpha) * p**self.gamma * (q + 1e-8).log()
        return negative - positive


@MATCH_COSTS.register()
class L1Cost(MatchCost):
    """Sum of the absolute differences of (cx, cy, w, h)."""

    def __call__(self, predictions: LayerPredictions, targets: Targets) -> Tensor:
        boxes_4GN = planes_of(predictions.boxes_BN4).index_select(1, targets.image_G)
        return boxes_4GN.sub_(planes_of(targets.boxes_G4)[..., None]).abs_().sum(0)


@MATCH_COSTS.register()
class GIoUCost(MatchCost):
    """Minus the generalised IoU, in [-1, 1]."""

    def __call__(self, predictions: LayerPredictions, targets: Targets) -> Tensor:
        corners_4GN = corners_of(predictions.boxes_BN4).index_select(1, targets.image_G)
        return -generalized_iou(corners_4GN, targets.corners_4G[..., None])


class MatchCosts:
    """Weighted sum of named prices: ``MatchCosts(l1=L1Cost(5.0), giou=GIoUCost(2.0))``.

    Prices of masks (:class:`MaskCost`, :class:`DiceCost`) may be among them.
    """

    def __init__(self, **costs: MatchCost | MaskMatchCost):
        if not costs:
            raise ValueError("MatchCosts needs at least one cost")
        for name, cost in costs.items():
            mend = f"delete it with '~...costs.{name}', or give its weight: costs.{name}.weight=1"
            if not isinstance(cost, MaskMatchCost):
                require_kind(f"cost {name}", cost, MatchCost, mend)
        self.costs = costs

    def __call__(self, predictions: LayerPredictions, targets: Targets) -> Tensor:
        """Price (G, N) of every object with every query of its own image.

        Raises:
            ValueError: masks have a price, but there are none.
        """
        of_masks = [cost for cost in self.costs.values() if isinstance(cost, MaskMatchCost)]
        others = [cost for cost in self.costs.values() if isinstance(cost, MatchCost)]
        prices = [mask_prices(of_masks, predictions, targets)] if of_masks else []
        if others:
            at_once = max(1, _PAIRS // max(1, predictions.boxes_BN4.shape[1]))
            parts = [
                reduce(torch.add, (cost.weight * cost(predictions, part) for cost in others))
                for part in targets.parts(at_once)
            ]
            prices.append(torch.cat(parts) if len(parts) > 1 else parts[0])
        return reduce(torch.add, prices)
