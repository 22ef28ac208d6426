"""Prices of masks, on random points that all queries and objects of an image share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..arguments import require_number
from ..registry import MATCH_COSTS
from ..structures import LayerPredictions, Targets
from ..structures.masks import ObjectMasks, QueryMasks, sample_logits

# Queries whose whole maps exist at the same time.
_QUERIES = 16


@dataclass(frozen=True)
class ImageMasks:
    """Masks of the queries and objects of one image, for prices that ask for them.

    Attributes:
        predicted: of all queries.
        true: of all objects of the batch.
        image: index of the image.
        objects: the objects of the image.
    """

    predicted: QueryMasks
    true: ObjectMasks
    image: int
    objects: slice

    def sample(self, num_points: int) -> tuple[Tensor, Tensor]:
        """Logits (N, R) and truth (G, R) at uniform random points; maps exist for a moment only."""
        queries = self.predicted.states_BNC.shape[1]
        device = self.true.first_G.device
        image_N = torch.full((queries,), self.image, device=device)
        extent_12 = self.predicted.extent_of(image_N[:1])
        points_1R2 = torch.rand(1, num_points, 2, dtype=extent_12.dtype, device=device)
        chunks = [
            sample_logits(self.predicted.of(image_P, query_P)[None], points_1R2, extent_12)[0]
            for image_P, query_P in zip(
                image_N.split(_QUERIES), torch.arange(queries, device=device).split(_QUERIES)
            )
        ]
        own_G = torch.arange(self.objects.start, self.objects.stop, device=device)
        truth_GR = self.true.sample(own_G, points_1R2.expand(len(own_G), -1, -1))
        return torch.cat(chunks), truth_GR


class MaskMatchCost:
    """A price of masks; lower is better.

    Args:
        weight: factor of the price in the sum, at least 0.
        num_points: points at which masks are compared; costs with the same number share them.
    """

    def __init__(self, weight: float, num_points: int = 12544):
        require_number(f"weight of {type(self).__name__}", weight, 0)
        if not isinstance(num_points, int) or isinstance(num_points, bool) or num_points < 1:
            raise ValueError(f"num_points must be a whole number of at least 1, got {num_points!r}")
        self.weight, self.num_points = weight, num_points

    def __call__(self, logits_NR: Tensor, truth_GR: Tensor) -> Tensor:
        """Unweighted price (N, G) within one image."""
        raise NotImplementedError


@MATCH_COSTS.register()
class MaskCost(MaskMatchCost):
    """Binary cross-entropy, averaged over the points."""

    def __call__(self, logits_NR: Tensor, truth_GR: Tensor) -> Tensor:
        # Of logit x and truth t it is softplus(x) - x * t.
        return F.softplus(logits_NR).mean(1)[:, None] - logits_NR @ truth_GR.T / logits_NR.shape[1]


@MATCH_COSTS.register()
class DiceCost(MaskMatchCost):
    """1 - Dice coefficient, as :class:`ms_detr.losses.MaskDice` has it."""

    def __call__(self, logits_NR: Tensor, truth_GR: Tensor) -> Tensor:
        probability_NR = logits_NR.sigmoid()
        sizes_NG = probability_NR.sum(1)[:, None] + truth_GR.sum(1)
        return 1 - (2 * probability_NR @ truth_GR.T + 1) / (sizes_NG + 1)


def mask_prices(
    costs: Sequence[MaskMatchCost], predictions: LayerPredictions, targets: Targets
) -> Tensor:
    """Weighted sum (G, N) of prices, image by image, for samples of all of them would be large.

    Raises:
        ValueError: there are no masks.
    """
    if predictions.masks is None or targets.masks is None:
        raise ValueError(
            f"{type(costs[0]).__name__} needs predicted and true masks, but the detector "
            "has no mask head; delete it from the costs, or give model.mask_head"
        )
    first, rows = 0, [predictions.boxes_BN4.new_zeros(0, predictions.boxes_BN4.shape[1])]
    numbers = {cost.num_points for cost in costs}
    for image, count in enumerate(targets.counts):
        if count:
            own = slice(first, first + count)
            masks = ImageMasks(predictions.masks, targets.masks, image, own)
            samples = {number: masks.sample(number) for number in numbers}
            prices = [cost.weight * cost(*samples[cost.num_points]) for cost in costs]
            rows.append(torch.stack(prices).sum(0).T)
        first += count
    return torch.cat(rows)
