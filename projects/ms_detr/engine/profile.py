"""Where the time and the memory of a training step go: `train.profile=True`.

A step is cut at boundaries into intervals that belong to one part each, so that the parts, with
"other", sum to the step. The model is not changed for it: hooks on its modules, put there for the
profiled steps and taken away after them, and the trainer's announcements of its phases.
"""

from __future__ import annotations

import logging
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from detectron2.engine import HookBase
from detectron2.utils import comm
from tabulate import tabulate
from torch import nn

from ..visualization.step import save_step_profile
from .meters import DeviceClock, DeviceMemory, HostClock, HostMemory, Meter

__all__ = ["PARTS", "Recorder", "StepProfile", "watch_parts"]

logger = logging.getLogger(__name__)

PARTS = (
    "data", "backbone", "encoder", "decoder", "matching", "losses", "backward", "optimiser", "other"
)  # fmt: skip
"""Of a step, in its order. The neck counts to the backbone; queries, heads and the branches of
supervisions to the decoder; clipping and the check of the gradients to the optimiser; preparing
images and targets, and writing the log, to the rest."""

_MODULES = {
    "backbone": ("backbone", "neck"),
    "encoder": ("encoder",),
    "decoder": ("queries", "decoder", "heads"),
    "losses": ("supervisions",),
}
_CYCLE = 3  # steps of a profile: one to see allocations, one for the memory, one for the time


class Recorder:
    """Gives the intervals of one step to the parts that it is told of.

    Args:
        meter: is asked at every boundary.
        join: makes one number of all intervals of a part: `sum` of times, `max` of memory.
    """

    def __init__(self, meter: Meter, join: Callable[[list[float]], float]) -> None:
        self._meter, self._join = meter, join
        self._open = ["other"]
        self._parts = ["other"]  # of the interval after each boundary
        meter.mark()

    @contextmanager
    def span(self, part: str) -> Iterator[None]:
        """What runs inside belongs to ``part``, but for spans inside it."""
        self.begin(part)
        try:
            yield
        finally:
            self.end()

    def begin(self, part: str) -> None:
        """A part begins; where it belongs to another one, that one goes on after it."""
        self._open.append(part)
        self._mark()

    def end(self) -> None:
        """The part that began last ends."""
        self._open.pop()
        self._mark()

    def _mark(self) -> None:
        self._meter.mark()
        self._parts.append(self._open[-1])

    def finish(self) -> dict[str, float]:
        """The value of every part that was met; the step is over."""
        self._meter.mark()
        values = defaultdict(list)
        for part, value in zip(self._parts, self._meter.finish(), strict=True):
            values[part].append(value)
        return {part: self._join(values[part]) for part in PARTS if part in values}


def watch_parts(model: nn.Module, recorder: Recorder) -> ExitStack:
    """Hooks the parts of a detector to a recorder; closing what is returned takes all hooks away.

    Args:
        model: a detector; parts that it does not have are left out.
        recorder: is told when they begin and end.
    """
    stack = ExitStack()

    def watch(module: nn.Module, part: str) -> None:
        before = module.register_forward_pre_hook(lambda *_: recorder.begin(part))
        after = module.register_forward_hook(lambda *_: recorder.end(), always_call=True)
        stack.callback(before.remove)
        stack.callback(after.remove)

    for part, names in _MODULES.items():
        for name in names:
            module = getattr(model, name, None)
            if isinstance(module, nn.Module):
                watch(module, part)
    supervisions = getattr(model, "supervisions", None)
    if supervisions is None:
        return stack
    for _, supervision in supervisions.named():
        watch(supervision.branch, "decoder")
    prepare = supervisions.prepare

    def matching(*arguments: Any) -> Any:
        with recorder.span("matching"):
            return prepare(*arguments)

    supervisions.prepare = matching  # shadows the method
    stack.callback(delattr, supervisions, "prepare")
    return stack


class StepProfile(HookBase):
    """Splits one step in ``period`` into its parts.

    Writes ``profile/<part>_ms`` and ``profile/<part>_mb`` to the storage (so to ``metrics.json``
    and TensorBoard), and at the end of training ``profile.png`` and a table in the log, both with
    medians. Time and memory are those of two successive steps, because following every allocation
    takes time; memory is the most that tensors take in a part, beyond what they take when the step
    begins. Steps that are not profiled run as without this hook.

    Args:
        period: of the writers, in iterations; the timed step is the last one of a period.
        output_dir: of the picture.
    """

    def __init__(self, period: int, output_dir: str | Path) -> None:
        self._cycle = period * -(-_CYCLE // period)
        self._picture = Path(output_dir) / "profile.png"
        self._recorder: Recorder | None = None
        self._memory: HostMemory | DeviceMemory | None = None
        self._hooks = ExitStack()
        self._history: dict[str, list[float]] = defaultdict(list)

    def before_step(self) -> None:
        left = self._cycle - 1 - self.trainer.iter % self._cycle
        on_gpu = self.trainer.device_type == "cuda"
        if left == 2:
            self._memory = DeviceMemory() if on_gpu else HostMemory()
        elif left == 1:
            self._memory = DeviceMemory() if on_gpu else HostMemory()
            self._watch(Recorder(self._memory, max))
        elif left == 0 and self.trainer.iter > self.trainer.start_iter:  # which prepares much
            self._watch(Recorder(DeviceClock() if on_gpu else HostClock(), sum))

    def _watch(self, recorder: Recorder) -> None:
        model = self.trainer.model
        self._hooks = watch_parts(getattr(model, "module", model), recorder)
        self._hooks.callback(setattr, self.trainer, "span", self.trainer.span)
        self.trainer.span = recorder.span
        self._recorder = recorder

    def after_step(self) -> None:
        if self._recorder is not None:
            unit = "ms" if self._memory is None else "mb"
            for part, value in self._recorder.finish().items():
                self._history[f"{part}_{unit}"].append(value)
            if unit == "ms":  # memory is stored with the time: one line of the metrics has both
                for name, values in self._history.items():
                    self.trainer.storage.put_scalar(
                        f"profile/{name}", values[-1], smoothing_hint=False
                    )
        self._stop()

    def _stop(self) -> None:
        self._hooks.close()
        if self._memory is not None:
            self._memory.close()
        self._recorder = self._memory = None

    def after_train(self) -> None:
        """Also after a step that failed."""
        self._stop()
        if not self._history:
            logger.warning("no step was profiled: that takes %d iterations", self._cycle)
            return
        medians = {name: statistics.median(values) for name, values in self._history.items()}
        rows = [
            (part, medians.get(f"{part}_ms"), medians.get(f"{part}_mb"))
            for part in PARTS
            if f"{part}_ms" in medians or f"{part}_mb" in medians
        ]
        table = tabulate(rows, headers=("part", "ms", "peak MiB"), floatfmt=".1f")
        logger.info("profile of a step (medians):\n%s", table)
        device = torch.cuda.get_device_name() if self.trainer.device_type == "cuda" else "CPU"
        count = comm.get_world_size()
        of = f", process {comm.get_rank()} of {count}" if count > 1 else ""
        save_step_profile(rows, self._picture, title=f"A training step on {device}{of}")
        logger.info("its picture is %s", self._picture)
