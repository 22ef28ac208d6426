"""What a run writes while it goes: JSON lines, TensorBoard, and a line of progress."""

from __future__ import annotations

import datetime
import json
import logging
import os
import resource
import sys
import threading
from collections.abc import Callable

import torch
from detectron2.utils.events import (
    EventStorage,
    EventWriter,
    TensorboardXWriter,
    get_event_storage,
)

from .events import WINDOW
from .files import output_errors

logger = logging.getLogger(__name__)


class ProgressWriter(EventWriter):
    """One line for a person: time left, total loss, the sum of each supervision, and speed.

    The terms of every layer (dozens) are in ``metrics.json`` and TensorBoard. Losses and the
    gradient norm are medians of the last ``window`` iterations.
    """

    def __init__(self, max_iter: int, window: int = WINDOW) -> None:
        self._max_iter = max_iter
        self._window = window

    def write(self) -> None:
        """Logs the line for the present iteration; nothing once training is over."""
        storage = get_event_storage()
        done = storage.iter + 1
        if done > self._max_iter or "total_loss" not in storage.histories():
            return
        logger.info("  ".join(self._parts(storage, done)))

    def _parts(self, storage: EventStorage, done: int) -> list[str]:
        histories = storage.histories()
        parts = [f"iter {done}/{self._max_iter}"]
        if "time" in histories:
            seconds = histories["time"].median(1000) * (self._max_iter - done)
            storage.put_scalar("eta_seconds", seconds, smoothing_hint=False)
            parts.insert(0, f"eta {datetime.timedelta(seconds=int(seconds))}")
        for name in ["total_loss", *supervision_names(storage), "grad_norm"]:
            if name in histories:
                parts.append(f"{name} {histories[name].median(self._window):.4g}")
        if "lr" in histories:
            parts.append(f"lr {histories['lr'].latest():.3g}")
        for name, label in (("time", "s/iter"), ("data_time", "data s")):
            if name in histories:
                parts.append(f"{histories[name].avg(self._window):.3f} {label}")
        parts.append(f"memory {peak_memory_mb():.0f} MB")
        return parts


def supervision_names(storage: EventStorage) -> list[str]:
    """Names that have terms below them: "mixed" where "mixed/0/l1" is stored too."""
    names = storage.histories()
    above = {name.partition("/")[0] for name in names if "/" in name}
    return [name for name in names if name in above]


def peak_memory_mb() -> float:
    """Largest memory so far in MiB: of the GPU's tensors, or of the process without a GPU."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB on Linux, bytes on macOS
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


class MetricsWriter(EventWriter):
    """One line of ``metrics.json`` for each iteration that something new is known of.

    The file is opened for each writing, so that one that is gone is noticed.

    Args:
        path: the file, which is appended to.
        written: the last iteration that the file has a line of.
        window: scalars that are noisy are medians of so many last values.

    Attributes:
        written: see above; grows.
    """

    def __init__(self, path: str, written: int = -1, window: int = WINDOW) -> None:
        self.path, self.written, self._window = path, written, window

    def write(self) -> None:
        """Writes what is new, and waits until the disk has it.

        Raises:
            OutputError: the file cannot be written.
        """
        scalars = get_event_storage().latest_with_smoothing_hint(self._window)
        lines: dict[int, dict[str, float]] = {}
        for name, (value, iteration) in scalars.items():
            if iteration > self.written:
                lines.setdefault(iteration, {"iteration": iteration})[name] = value
        if not lines:
            return
        text = "".join(json.dumps(lines[i], sort_keys=True) + "\n" for i in sorted(lines))
        # Not created where it is the directory that is gone.
        with output_errors("the metrics", self.path), open(self.path, "a") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        self.written = max(lines)


class EventFileWriter(TensorboardXWriter):
    """TensorBoard's event files; what an earlier, killed run wrote after ``written`` is hidden.

    TensorBoard writes in a thread of its own: an error of the disk comes up at the next writing,
    or when the file is closed.
    """

    def __init__(self, log_dir: str, written: int = -1) -> None:
        self._folder = log_dir
        with output_errors("TensorBoard's events in", log_dir):
            super().__init__(log_dir, purge_step=written + 1)
        self._last_write = written

    def write(self) -> None:
        with output_errors("TensorBoard's events in", self._folder):
            super().write()

    def close(self) -> None:
        with output_errors("TensorBoard's events in", self._folder):
            super().close()


def quiet_event_thread() -> None:
    """Keeps the traceback of TensorBoard's thread off the screen: its error is raised again."""
    if isinstance(threading.excepthook, _QuietHook):
        return
    threading.excepthook = _QuietHook(threading.excepthook)


class _QuietHook:
    def __init__(self, usual: Callable[[threading.ExceptHookArgs], object]) -> None:
        self.usual = usual

    def __call__(self, given: threading.ExceptHookArgs) -> None:
        if type(given.thread).__module__.startswith("tensorboard."):
            logger.debug("TensorBoard's thread ended: %s", given.exc_value)
        else:
            self.usual(given)


def build_writers(output_dir: str, max_iter: int, written: int = -1) -> list[EventWriter]:
    """The progress line, ``metrics.json`` and TensorBoard's event files, in ``output_dir``.

    Args:
        output_dir: where the files are.
        max_iter: iterations of the whole run.
        written: the last iteration of which ``metrics.json`` has a line already.

    Raises:
        OutputError: the directory cannot be written.
    """
    return [
        ProgressWriter(max_iter),
        MetricsWriter(os.path.join(output_dir, "metrics.json"), written),
        EventFileWriter(output_dir, written),
    ]
