"""Loss terms of a step: their sums, their checks, and what is said of the images behind them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from detectron2.utils import comm
from torch import Tensor

from ..errors import NonFiniteElsewhere, NonFiniteError


def supervision_sums(terms: Mapping[str, float]) -> dict[str, float]:
    """Sums the terms of each supervision: ``{"mixed/0/l1": 1., "mixed/1/l1": 2.}`` gives
    ``{"mixed": 3.}``. Names without a slash stand for themselves and are left out."""
    sums: dict[str, float] = {}
    for name, value in terms.items():
        supervision, slash, _ = name.partition("/")
        if slash:
            sums[supervision] = sums.get(supervision, 0.0) + value
    return sums


def describe_images(batch: Any) -> list[str]:
    """One text per image of a batch: its id and its file, as far as the batch names them."""
    images = batch if isinstance(batch, (list, tuple)) else []
    return [
        f"image_id {image.get('image_id', '?')}, file {image.get('file_name', '?')}"
        for image in images
        if isinstance(image, Mapping)
    ]


def mean_over_processes(losses: Tensor) -> Tensor:
    """The mean, the same in all processes; nothing where there is only one process."""
    if comm.get_world_size() == 1:
        return losses.new_zeros(0)
    mean = losses / comm.get_world_size()
    torch.distributed.all_reduce(mean)
    return mean


def as_scalar(name: str, loss: Any) -> Tensor:
    """A loss of a model as a scalar of at least float32; ValueError if it is no scalar tensor."""
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        shape = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        raise ValueError(f"loss {name!r} is {shape}: a model returns scalar tensors in training")
    return loss.to(torch.promote_types(loss.dtype, torch.float32)).reshape(())


def check_losses(terms: Mapping[str, float], everywhere: Mapping[str, float]) -> None:
    """Checks the loss terms of this process, and their means over processes.

    Raises:
        NonFiniteError: names the terms which are not finite, or says that their sum is not.
        NonFiniteElsewhere: those of this process are finite.
    """
    bad = {name: value for name, value in terms.items() if not math.isfinite(value)}
    if bad:
        raise NonFiniteError(
            f"{len(bad)} of {len(terms)} loss terms are not finite; training stops before they "
            f"reach the weights",
            terms=bad,
        )
    if not math.isfinite(sum(terms.values())):
        raise NonFiniteError("the total loss is not finite, although every term is", terms=terms)
    bad = {name: value for name, value in everywhere.items() if not math.isfinite(value)}
    if bad:
        raise NonFiniteElsewhere("loss terms of another process are not finite", terms=bad)
