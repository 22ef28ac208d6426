"""An update from several forward passes, each over a part of its images."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..arguments import require_whole
from ..errors import ConfigError
from ..structures import count_boxes


class Accumulation:
    """Splits the batch of an update so that the sum of the parts' gradients is the batch's.

    The losses of a batch are sums over objects and queries, divided by the number of objects of
    all processes. So they add up if every part is divided by the number that the whole batch has,
    which is handed to the model as ``num_boxes``.

    Args:
        model: wrapped for several processes or not.
        parts: into how many parts a batch is split; 1 leaves it and the model's call as they are.

    Raises:
        ConfigError: several parts, and the model takes no ``num_boxes``.
    """

    def __init__(self, model: nn.Module, parts: int = 1) -> None:
        require_whole("train.accumulate", parts)
        self.model, self.parts = model, parts
        inner = getattr(model, "module", model)
        if parts > 1 and "num_boxes" not in inspect.signature(inner.forward).parameters:
            raise ConfigError(
                f"train.accumulate={parts}, but forward() of {type(inner).__name__} takes no "
                f"num_boxes, the number of objects of the whole batch that losses are divided by; "
                f"give it this argument, or set train.accumulate=1"
            )

    def split(self, batch: Sequence[Any]) -> list[Sequence[Any]]:
        """The parts of a batch of this process, equally large, in the order of the batch."""
        if self.parts == 1:
            return [batch]
        size, rest = divmod(len(batch), self.parts)
        if rest or not size:
            raise ConfigError(
                f"a batch of {len(batch)} images of one process cannot be split into "
                f"train.accumulate={self.parts} equal parts; set dataloader.train.total_batch_size "
                f"to a multiple of processes times train.accumulate"
            )
        return [batch[start : start + size] for start in range(0, len(batch), size)]

    def options(self, batch: Sequence[Any]) -> dict[str, Tensor]:
        """What the model is given beside each part: the normaliser of the whole update.

        Where there are several parts this is a reduction over all processes.
        """
        if self.parts == 1:
            return {}
        parameter = next(self.model.parameters())
        dtype = torch.promote_types(parameter.dtype, torch.float32)
        here = sum(len(image["instances"]) for image in batch)
        return {"num_boxes": count_boxes(here, dtype, parameter.device)}

    def exchange(self, number: int) -> AbstractContextManager:
        """Around forward and backward of a part: processes exchange gradients in the last only."""
        if number + 1 < self.parts and isinstance(self.model, DistributedDataParallel):
            return self.model.no_sync()
        return nullcontext()
