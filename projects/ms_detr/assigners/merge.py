"""Adding the pairs of the one-to-one set to the one-to-many set.

The optimum over all objects need not give an object its best query, and a threshold may leave an
object without any: merged, every object of the one-to-one set is in the one-to-many set as well.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..registry import MERGES
from ..structures import Assignment, LayerPredictions


class Merge:
    """Makes one assignment of two.

    Args:
        source: name of the supervision whose one-to-one pairs are merged.
    """

    def __init__(self, *, source: str = "one_to_one"):
        self.source = source

    def __call__(
        self, one_to_many: Assignment, one_to_one: Assignment, predictions: LayerPredictions
    ) -> Assignment:
        """Merge.

        Args:
            one_to_many: pairs of the supervision that the merge belongs to.
            one_to_one: pairs of the same layer in which no query occurs twice.
            predictions: of the layer; tells how many queries there are.

        Returns:
            slots of the one-to-many set, then of the one-to-one set; the normaliser of the former.
        """
        raise NotImplementedError


@MERGES.register()
class AppendMissing(Merge):
    """One-to-one pairs that the one-to-many set lacks are appended (Algorithm 1, lines 22 to 26).

    No pair is taken away: a query may get a second object.  It then learns the boxes of both, and
    the class of the object that it had.
    """

    @torch.no_grad()
    def __call__(
        self, one_to_many: Assignment, one_to_one: Assignment, predictions: LayerPredictions
    ) -> Assignment:
        many, one = cells(one_to_many, predictions), cells(one_to_one, predictions)
        partner = table(predictions, -1, torch.int64).index_put_((one,), one_to_one.target_P)
        known_P = one_to_many.valid_P & (partner[many] == one_to_many.target_P)
        known = mark(predictions, many, known_P)
        labelled = mark(predictions, many, one_to_many.labelled_P)
        missing_P = one_to_one.valid_P & ~known[one]
        return joined(
            one_to_many,
            one_to_one,
            valid_P=torch.cat([one_to_many.valid_P, missing_P]),
            labelled_P=torch.cat([one_to_many.labelled_P, missing_P & ~labelled[one]]),
        )


@MERGES.register()
class OverrideByOneToMany(Merge):
    """Every query has one object: that of the one-to-many set, else that of the one-to-one set.

    Of several one-to-many objects of a query the one that owns its label stays, which is the one
    of the highest score.  Box losses count once per query.  This is what the code released with
    MS-DETR does when told to merge.
    """

    @torch.no_grad()
    def __call__(
        self, one_to_many: Assignment, one_to_one: Assignment, predictions: LayerPredictions
    ) -> Assignment:
        many, one = cells(one_to_many, predictions), cells(one_to_one, predictions)
        taken = mark(predictions, many, one_to_many.valid_P)
        free_P = one_to_one.valid_P & ~taken[one]
        valid_P = torch.cat([one_to_many.labelled_P, free_P])
        return joined(one_to_many, one_to_one, valid_P=valid_P, labelled_P=valid_P)


def cells(assignment: Assignment, predictions: LayerPredictions) -> Tensor:
    """Number of every slot's query within the batch; that of a slot without a pair is B * N."""
    images, queries = predictions.boxes_BN4.shape[:2]
    cell_P = assignment.image_P * queries + assignment.query_P
    return cell_P.masked_fill(~assignment.valid_P, images * queries)


def table(predictions: LayerPredictions, value: int | bool, dtype: torch.dtype) -> Tensor:
    """One entry per query of the batch, and one for slots without a pair."""
    boxes = predictions.boxes_BN4
    size = boxes.shape[0] * boxes.shape[1] + 1
    return torch.full((size,), value, dtype=dtype, device=boxes.device)


def mark(predictions: LayerPredictions, cell_P: Tensor, which_P: Tensor) -> Tensor:
    """True for the queries of which some slot is meant."""
    count = table(predictions, 0, torch.int64).index_add_(0, cell_P, which_P.long())
    return count > 0


def joined(
    first: Assignment, second: Assignment, valid_P: Tensor, labelled_P: Tensor
) -> Assignment:
    """Slots of both, with the normaliser of the first."""
    image_P, query_P, target_P = (
        torch.cat([getattr(first, name), getattr(second, name)])
        for name in ("image_P", "query_P", "target_P")
    )
    return Assignment(image_P, query_P, target_P, valid_P, labelled_P, first.normalizer)
