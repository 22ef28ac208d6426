"""One-to-one assignment (DETR, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from ..arguments import require_kind
from ..errors import NonFiniteError
from ..registry import ASSIGNERS
from ..structures import Assignment, LayerPredictions, Targets
from .assigner import HostAssigner, Steps
from .costs import MatchCosts


@ASSIGNERS.register()
class HungarianAssigner(HostAssigner):
    """The cheapest set of pairs in which every query and every object occurs at most once.

    With more objects than queries, the objects that are dearest to answer stay without a query.
    Prices are made on the device; the host finds the pairs, image by image.

    Args:
        costs: price of a pair.

    Raises:
        NonFiniteError: (when called) a price is NaN or infinite, so that nothing can be ranked;
            the message names the layer.  Predictions without a price (no objects; logits, if only
            boxes are priced) go unnoticed here, and make the losses non-finite.
    """

    def __init__(self, *, costs: MatchCosts):
        mend = "write costs={_target_: ms_detr.assigners.MatchCosts, NAME: ...}"
        require_kind("costs of a HungarianAssigner", costs, MatchCosts, mend)
        self.costs = costs

    @torch.no_grad()
    def steps(self, predictions: LayerPredictions, targets: Targets) -> Steps[Assignment]:
        prices = yield self.costs(predictions, targets)
        cost_GN = prices.numpy()
        check_finite(cost_GN, targets.counts, predictions.images)
        pairs_2P, counts = cheapest_pairs(cost_GN, targets.counts)
        pairs = yield torch.from_numpy(pairs_2P)
        query_P, target_P = pairs.unbind()
        image_P = targets.image_G[target_P]
        every_P = torch.ones_like(query_P, dtype=torch.bool)
        return Assignment(image_P, query_P, target_P, every_P, every_P, targets.num_boxes, counts)


def cheapest_pairs(
    cost_GN: np.ndarray, counts: Sequence[int]
) -> tuple[np.ndarray, tuple[int, ...]]:
    """The optimum of every image by itself.

    Args:
        cost_GN: price of every object with every query of its image.
        counts: number of objects of every image.

    Returns:
        (2, P) query and object of all pairs, ordered by object; number of pairs of every image.
    """
    pairs, first = [np.zeros((2, 0), dtype=np.int64)], 0
    for count in counts:
        if count:
            # Queries by objects, as published: of equally cheap sets the same one is found.
            query, target = linear_sum_assignment(cost_GN[first : first + count].T)
            order = target.argsort()
            pairs.append(np.stack([query[order], target[order] + first]))
        first += count
    queries = cost_GN.shape[1]
    return np.concatenate(pairs, 1), tuple(min(count, queries) for count in counts)


def check_finite(cost_GN: np.ndarray, counts: Sequence[int], images: int) -> None:
    """Raises NonFiniteError unless all prices are finite.

    Args:
        cost_GN: price of every object with every query of its image.
        counts: number of objects of every image.
        images: number of images of a layer.
    """
    finite_G = np.isfinite(cost_GN).all(1)
    if finite_G.all():
        return
    image_G = np.repeat(np.arange(len(counts)), counts)
    layer = image_G[finite_G.argmin()] // images
    raise NonFiniteError(
        f"layer {layer}: class logits or boxes of the predictions are NaN or infinite"
    )
