"""An average of the weights over the updates of a run, which often detects better than the last."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ..arguments import require_whole
from ..errors import ConfigError
from .files import write_atomically


class WeightAverage:
    """Exponential moving average of a model's parameters; buffers are those of the model.

    After update n, counted from 1, the average goes from its place a share 1 - d towards the
    weights, with d = min(decay, n / (n + warmup)), and with the first update to the weights
    themselves. So early weights are forgotten early, and what the model was initialised with never
    counts. The number of updates is kept on the host: nothing waits for the device.

    torch's ``AveragedModel`` keeps that number in a tensor that a decay with a warm-up would have
    to be read from; its arithmetic is used.

    Args:
        model: not wrapped for several processes. Each process keeps an average of its own; all are
            equal, as the models are.
        decay: in [0, 1): the average is over about 1 / (1 - decay) updates.
        warmup: updates after which the decay is a half, if ``decay`` is higher; at least 0.

    Raises:
        ConfigError: the decay is out of its range.
    """

    def __init__(self, model: nn.Module, decay: float = 0.9999, warmup: int = 10) -> None:
        if not 0 <= decay < 1:
            raise ConfigError(
                f"train.ema.decay is {decay!r}: it must be at least 0 and below 1 (at 1 the "
                f"average would never change); set train.ema.decay=0.9999"
            )
        require_whole("train.ema.warmup", warmup, 0)
        self.decay, self.warmup, self.updates = decay, warmup, 0
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self._live, self._average = list(model.parameters()), list(self.model.parameters())
        self._buffers = list(zip(self.model.buffers(), model.buffers()))

    @torch.no_grad()
    def update(self) -> None:
        """Takes the present weights of the model into the average."""
        decay = 0.0
        if self.updates:
            number = self.updates + 1
            decay = min(self.decay, number / (number + self.warmup))
        self.updates += 1
        get_ema_multi_avg_fn(decay)(self._average, self._live, None)
        for ours, theirs in self._buffers:
            ours.copy_(theirs)

    def state_dict(self) -> dict[str, Any]:
        """The number of updates ("updates") and the averaged weights ("model")."""
        return {"updates": self.updates, "model": self.model.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores :meth:`state_dict`; the average goes on to the bit."""
        self.updates = state["updates"]
        self.model.load_state_dict(state["model"])

    def save(self, path: str) -> None:
        """Writes the averaged weights as a checkpoint that ``train.init_checkpoint`` can name.

        Raises:
            OutputError: the file cannot be written.
        """
        content = {"model": self.model.state_dict()}
        write_atomically(path, lambda file: torch.save(content, file), "the averaged weights")


def averaged_weights(checkpoint: dict[str, Any], path: str) -> dict[str, Tensor]:
    """The averaged weights that a checkpoint of a training run holds, by name.

    Args:
        checkpoint: what is in the file beside the model.
        path: of the file, for the message.

    Raises:
        ConfigError: there are none.
    """
    state = (checkpoint.get("trainer") or {}).get("ema")
    if not state:
        raise ConfigError(
            f"{path} holds no averaged weights: it was saved by a run without "
            f"train.ema.enabled=True, or is a file of weights alone; set train.ema.enabled=False "
            f"to evaluate the weights that it has"
        )
    return state["model"]
