"""One-to-one assignment (DETR, section 3.1)."""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ..arguments import require_kind
from ..errors import NonFiniteError
from ..registry import ASSIGNERS
from ..structures import Assignment, LayerPredictions, Targets
from .assigner import Assigner
from .costs import MatchCosts
from .mask_costs import ImageMasks


@ASSIGNERS.register()
class HungarianAssigner(Assigner):
    """The cheapest set of pairs in which every query and every object occurs at most once.

    With more objects than queries, the objects that are dearest to answer stay without a query.
    Works on the host, image by image.

    Args:
        costs: price of a pair.
    """

    def __init__(self, *, costs: MatchCosts):
        mend = "write costs={_target_: ms_detr.assigners.MatchCosts, NAME: ...}"
        require_kind("costs of a HungarianAssigner", costs, MatchCosts, mend)
        self.costs = costs

    @torch.no_grad()
    def __call__(self, predictions: LayerPredictions, targets: Targets) -> Assignment:
        """Assign.

        Raises:
            NonFiniteError: a price is NaN or infinite, so that nothing can be ranked.  Predictions
                without a price (no objects; logits, if only boxes are priced) go unnoticed here,
                and make the losses non-finite.
        """
        images, queries, objects, first = [], [], [], 0
        for image, count in enumerate(targets.counts):
            own = slice(first, first + count)
            query_P, target_P = self.match(
                predictions.logits_BNK[image],
                predictions.boxes_BN4[image],
                targets.labels_G[own],
                targets.boxes_G4[own],
                image_masks(predictions, targets, image, own),
            )
            images.append(torch.full_like(query_P, image))
            queries.append(query_P)
            objects.append(target_P + first)
            first += count
        image_P, query_P, target_P = map(torch.cat, (images, queries, objects))
        every_P = torch.ones_like(query_P, dtype=torch.bool)
        return Assignment(image_P, query_P, target_P, every_P, every_P, targets.num_boxes)

    def match(
        self,
        logits_NK: Tensor,
        boxes_N4: Tensor,
        labels_G: Tensor,
        boxes_G4: Tensor,
        masks: ImageMasks | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Queries and objects of the pairs of one image, by object; G may be 0."""
        device = logits_NK.device
        if len(labels_G) == 0:
            empty = torch.zeros(0, dtype=torch.int64, device=device)
            return empty, empty
        cost_NG = self.costs(logits_NK, boxes_N4, labels_G, boxes_G4, masks).cpu()
        if not torch.isfinite(cost_NG).all():
            raise NonFiniteError("class logits or boxes of the predictions are NaN or infinite")
        query, target = (torch.from_numpy(i).to(device) for i in linear_sum_assignment(cost_NG))
        order = target.argsort()
        return query[order], target[order]


def image_masks(
    predictions: LayerPredictions, targets: Targets, image: int, own: slice
) -> ImageMasks | None:
    """The masks of one image, for prices that ask for them; None where there are none."""
    if predictions.masks is None or targets.masks is None:
        return None
    return ImageMasks(predictions.masks, targets.masks, image, own)
