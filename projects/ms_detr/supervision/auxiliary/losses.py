"""Losses over candidates."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...losses.focal import focal_sums
from ...structures import Targets
from .head import UNUSED


@dataclass(frozen=True)
class Pairs:
    """Positives of a batch.

    Attributes:
        image_P, candidate_P: who is positive.
        object_P: the object of :class:`Targets` that it is to find.
    """

    image_P: Tensor
    candidate_P: Tensor
    object_P: Tensor

    @classmethod
    def of(cls, object_BA: Tensor) -> Pairs:
        """The positives of an assignment; the host waits for their number."""
        image_P, candidate_P = (object_BA >= 0).nonzero(as_tuple=True)
        return cls(image_P, candidate_P, object_BA[image_P, candidate_P])


def focal_loss(
    logits_BAK: Tensor, object_BA: Tensor, pairs: Pairs, targets: Targets,
    alpha: float = 0.25, gamma: float = 2.0,
) -> Tensor:  # fmt: skip
    """Summed focal loss () of all candidates that are used."""
    nothing = -float("inf")
    cells = (pairs.image_P, pairs.candidate_P, targets.labels_G[pairs.object_P])
    objects = -logits_BAK[cells]
    background = logits_BAK.masked_fill((object_BA == UNUSED)[..., None], nothing)
    background = background.index_put(cells, torch.full_like(objects, nothing))
    loss = alpha * focal_sums(objects[None], gamma)
    loss = loss.add(focal_sums(background.reshape(1, -1), gamma), alpha=1 - alpha)
    return loss[0]


def shared_normalizer(total: Tensor) -> Tensor:
    """A sum over all processes, at least 1, by their number: what losses are divided by.

    As :func:`ms_detr.structures.targets.count_boxes` does it for objects.

    Args:
        total: (), the sum of this process.
    """
    total = total.detach().clone()
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(total)
        return total.clamp(min=1) / torch.distributed.get_world_size()
    return total.clamp(min=1)
