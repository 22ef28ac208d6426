"""The interface of assigners, and what they share when the host has to work in between."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from ..structures import Assignment, LayerPredictions, Targets, send

Result = TypeVar("Result")
# What runs beside others: it yields what the host is to see (None: nothing) and is sent a copy of
# it on the host; if it has shown something it then yields indices made on the host, and is sent
# these on the device.
Steps = Generator[Tensor | None, Any, Result]


class Assigner:
    """Decides which query answers which object, without gradients.

    Losses are divided by the number of objects (:attr:`Targets.num_boxes`), as in the published
    code, for one-to-one and one-to-many alike.
    """

    def __call__(self, predictions: LayerPredictions, targets: Targets) -> Assignment:
        """Assign.

        Args:
            predictions: of the decoder's layers, or of the encoder's tokens.  Layers are images of
                a larger batch, and most assigners need not tell them apart.
            targets: objects of all these images.
        """
        raise NotImplementedError

    def steps(self, predictions: LayerPredictions, targets: Targets) -> Steps[Assignment]:
        """The same in steps, see :func:`run_together`; here in one, once copies are under way."""
        yield None
        return self(predictions, targets)


class HostAssigner(Assigner):
    """An assigner that has to see values on the host; it says how in :meth:`steps`."""

    def __call__(self, predictions: LayerPredictions, targets: Targets) -> Assignment:
        return run_together({"": self.steps(predictions, targets)})[""]

    def steps(self, predictions: LayerPredictions, targets: Targets) -> Steps[Assignment]:
        raise NotImplementedError


def run_together(all_steps: Mapping[str, Steps[Result]]) -> dict[str, Result]:
    """Results of all steps, by name; the host waits for the device once.

    All that the host is to see leaves the device in one copy.  While it is on its way, those who
    have nothing to show do their work on the device.  What the host makes of it goes back in one
    copy, for which nobody waits.
    """
    shown = {name: next(steps) for name, steps in all_steps.items()}
    download = Download({name: value for name, value in shown.items() if value is not None})
    results = {name: _finish(all_steps[name]) for name in shown if shown[name] is None}
    arrived = download.wait()
    answers = {name: cast(Tensor, all_steps[name].send(arrived[name])) for name in arrived}
    for name, value in _upload(answers, download.device).items():
        results[name] = _finish(all_steps[name], value)
    return {name: results[name] for name in all_steps}


class Download:
    """Values on their way from the device to the host, as one tensor in pinned memory.

    Args:
        values: by name, on one device.
    """

    def __init__(self, values: Mapping[str, Tensor]):
        self._shapes = {name: value.shape for name, value in values.items()}
        flat = [value.reshape(-1) for value in values.values()]
        together = torch.cat(flat) if flat else torch.zeros(0)
        self.device = together.device
        self._host = together.to("cpu", non_blocking=True)
        self._arrived = torch.cuda.Event() if together.is_cuda else None
        if self._arrived is not None:
            self._arrived.record(torch.cuda.current_stream(together.device))

    def wait(self) -> dict[str, Tensor]:
        """The values on the host."""
        if self._arrived is not None:
            self._arrived.synchronize()
        parts = self._host.split([shape.numel() for shape in self._shapes.values()])
        return {name: part.view(self._shapes[name]) for name, part in zip(self._shapes, parts)}


def _upload(values: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Indices of the host on the device, in one copy."""
    flat = [value.reshape(-1) for value in values.values()]
    together = send(torch.cat(flat) if flat else torch.zeros(0, dtype=torch.int64), device)
    parts = together.split([len(value) for value in flat])
    return {name: part.view(value.shape) for (name, value), part in zip(values.items(), parts)}


def _finish(steps: Steps[Result], value: Tensor | None = None) -> Result:
    """Result of steps of which the last one is due."""
    try:
        steps.send(value)
    except StopIteration as end:
        return end.value
    raise RuntimeError("steps go on after they were sent what they asked for")
