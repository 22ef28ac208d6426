"""Assigners that apply another one several times: block by block, or to repeated objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from ..arguments import require_kind, require_whole
from ..registry import ASSIGNERS
from ..structures import Assignment, LayerPredictions, Targets
from .assigner import Assigner, HostAssigner, Steps

_MEND = "write assigner={_target_: ms_detr.assigners.HungarianAssigner, ...}"


@ASSIGNERS.register()
class BlockwiseAssigner(HostAssigner):
    """Every block of queries answers all objects of its image, by itself (Group DETR, section 3.2).

    The blocks are those of the query group.  Losses are averaged over them.

    Args:
        assigner: what is done with each block.
    """

    def __init__(self, *, assigner: Assigner):
        require_kind("assigner of a BlockwiseAssigner", assigner, Assigner, _MEND)
        self.assigner = assigner

    @torch.no_grad()
    def steps(self, predictions: LayerPredictions, targets: Targets) -> Steps[Assignment]:
        """Assign; blocks are made images of a larger batch, so that the assigner is called once."""
        blocks = predictions.blocks
        folded = predictions.blocks_as_images()
        counts = tuple(count for count in targets.counts for _ in range(blocks))
        images, object_P = targets.repeated(blocks, counts)
        pairs = yield from self.assigner.steps(folded, images)
        size = folded.boxes_BN4.shape[1]
        return replace(
            pairs,
            image_P=pairs.image_P.div(blocks, rounding_mode="floor"),
            query_P=pairs.query_P + pairs.image_P.remainder(blocks) * size,
            target_P=object_P[pairs.target_P],
            counts=None if pairs.counts is None else sums(pairs.counts, blocks),
        )


@ASSIGNERS.register()
class RepeatingAssigner(HostAssigner):
    """Every object is there several times, and is answered as often (H-DETR, section 3.2).

    Losses are divided by the number of repeated objects, as in the published code.

    Args:
        assigner: what is done with the repeated objects.
        repeats: how often every object is there, at least 1.
    """

    def __init__(self, *, assigner: Assigner, repeats: int = 6):
        require_kind("assigner of a RepeatingAssigner", assigner, Assigner, _MEND)
        require_whole("repeats of RepeatingAssigner", repeats)
        self.assigner = assigner
        self.repeats = repeats

    @torch.no_grad()
    def steps(self, predictions: LayerPredictions, targets: Targets) -> Steps[Assignment]:
        """Assign; the pairs name the objects that were repeated, not their copies."""
        counts = tuple(count * self.repeats for count in targets.counts)
        repeated, object_P = targets.repeated(self.repeats, counts)
        pairs = yield from self.assigner.steps(predictions, repeated)
        return replace(pairs, target_P=object_P[pairs.target_P])


def sums(numbers: Sequence[int], size: int) -> tuple[int, ...]:
    """Sums of every ``size`` neighbours."""
    return tuple(sum(numbers[first : first + size]) for first in range(0, len(numbers), size))
