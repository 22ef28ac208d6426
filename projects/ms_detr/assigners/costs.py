"""Prices of answering an object with a query, for the Hungarian assigner."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import box_convert, generalized_box_iou

from ..arguments import require_kind, require_number
from ..registry import MATCH_COSTS
from .mask_costs import ImageMasks, MaskMatchCost


class MatchCost:
    """A price; lower is better.

    Args:
        weight: factor of the price in the sum, at least 0.
    """

    def __init__(self, weight: float):
        require_number(f"weight of {type(self).__name__}", weight, 0)
        self.weight = weight

    def __call__(
        self, logits_NK: Tensor, boxes_N4: Tensor, labels_G: Tensor, boxes_G4: Tensor
    ) -> Tensor:
        """Unweighted price (N, G) within one image; boxes are (cx, cy, w, h)."""
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

    def __call__(
        self, logits_NK: Tensor, boxes_N4: Tensor, labels_G: Tensor, boxes_G4: Tensor
    ) -> Tensor:
        # Only the columns of the objects' classes are needed; 1e-8 is the published guard of log.
        p = logits_NK[:, labels_G].sigmoid()
        positive = self.alpha * (1 - p) ** self.gamma * -(p + 1e-8).log()
        negative = (1 - self.alpha) * p**self.gamma * -(1 - p + 1e-8).log()
        return positive - negative


@MATCH_COSTS.register()
class L1Cost(MatchCost):
    """Sum of the absolute differences of (cx, cy, w, h)."""

    def __call__(
        self, logits_NK: Tensor, boxes_N4: Tensor, labels_G: Tensor, boxes_G4: Tensor
    ) -> Tensor:
        return torch.cdist(boxes_N4, boxes_G4, p=1)


@MATCH_COSTS.register()
class GIoUCost(MatchCost):
    """Minus the generalised IoU, in [-1, 1]."""

    def __call__(
        self, logits_NK: Tensor, boxes_N4: Tensor, labels_G: Tensor, boxes_G4: Tensor
    ) -> Tensor:
        predicted = box_convert(boxes_N4, "cxcywh", "xyxy")
        return -generalized_box_iou(predicted, box_convert(boxes_G4, "cxcywh", "xyxy"))


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

    def __call__(
        self,
        logits_NK: Tensor,
        boxes_N4: Tensor,
        labels_G: Tensor,
        boxes_G4: Tensor,
        masks: ImageMasks | None = None,
    ) -> Tensor:
        """Price (N, G) within one image.

        Raises:
            ValueError: masks have a price, but there are none.
        """
        of_masks = [cost for cost in self.costs.values() if isinstance(cost, MaskMatchCost)]
        if of_masks and masks is None:
            raise ValueError(
                f"{type(of_masks[0]).__name__} needs predicted and true masks, but the detector "
                "has no mask head; delete it from the costs, or give model.mask_head"
            )
        numbers = {cost.num_points for cost in of_masks}
        samples = {number: masks.sample(number) for number in numbers} if masks else {}
        prices = [
            cost.weight
            * (
                cost(*samples[cost.num_points])
                if isinstance(cost, MaskMatchCost)
                else cost(logits_NK, boxes_N4, labels_G, boxes_G4)
            )
            for cost in self.costs.values()
        ]
        return torch.stack(prices).sum(0)
