"""Losses over candidates."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...losses.focal import focal_sums
from ...losses.quality import quality_losses
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
    cells = (pairs.image_P, pairs.candidate_P, targets.labels_G[pairs.object_P])
    loss = alpha * focal_sums(-logits_BAK[cells][None], gamma)
    background_1X = _background(logits_BAK, object_BA, cells)
    loss = loss.add(focal_sums(background_1X, gamma), alpha=1 - alpha)
    return loss[0]


def quality_focal_loss(
    logits_BAK: Tensor, object_BA: Tensor, pairs: Pairs, targets: Targets, quality_P: Tensor,
    beta: float = 2.0,
) -> Tensor:  # fmt: skip
    """Summed quality focal loss () of all candidates that are used (GFL, equation 2).

    A positive learns a quality at its object's class, and 0 at the others.

    Args:
        logits_BAK: class logits.
        object_BA: who is to find what.
        pairs: the positives of it.
        targets: objects of the batch.
        quality_P: what positives learn, in [0, 1], without gradient.
        beta: how strongly predictions that are nearly right are weighted down.
    """
    cells = (pairs.image_P, pairs.candidate_P, targets.labels_G[pairs.object_P])
    loss_P = quality_losses(logits_BAK[cells], quality_P, beta)
    # Where 0 is learnt, this is the focal loss of background without its weight.
    background_1X = _background(logits_BAK, object_BA, cells)
    return loss_P.sum() + focal_sums(background_1X, beta)[0]


def _background(logits_BAK: Tensor, object_BA: Tensor, cells: tuple[Tensor, ...]) -> Tensor:
    """Logits (1, X) that are to be low; -inf, which has no loss, for objects and unused."""
    unused_BA1 = (object_BA == UNUSED)[..., None]
    background = logits_BAK.masked_fill(unused_BA1, -float("inf"))
    nothing_P = background.new_full(cells[0].shape, -float("inf"))
    return background.index_put(cells, nothing_P).reshape(1, -1)


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
