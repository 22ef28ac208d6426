"""What a run writes while it goes: JSON lines, TensorBoard, and a line of progress."""

from __future__ import annotations

import datetime
import logging
import os
import resource
import sys

import torch
from detectron2.utils.events import (
    EventStorage,
    EventWriter,
    JSONWriter,
    TensorboardXWriter,
    get_event_storage,
)

logger = logging.getLogger(__name__)


class ProgressWriter(EventWriter):
    """One line for a person: time left, total loss, the sum of each supervision, and speed.

    The terms of every layer (dozens) are in ``metrics.json`` and TensorBoard. Losses and the
    gradient norm are medians of the last ``window`` iterations.
    """

    def __init__(self, max_iter: int, window: int = 20) -> None:
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


def build_writers(output_dir: str, max_iter: int) -> list[EventWriter]:
    """The progress line, ``metrics.json`` and TensorBoard's event files, in ``output_dir``."""
    return [
        ProgressWriter(max_iter),
        JSONWriter(os.path.join(output_dir, "metrics.json")),
        TensorboardXWriter(output_dir),
    ]


def keep_old_metrics(output_dir: str) -> None:
    """Renames the ``metrics.json`` of an earlier run, to which a new run would append."""
    path = os.path.join(output_dir, "metrics.json")
    if not os.path.exists(path):
        return
    number = 1
    while os.path.exists(kept := os.path.join(output_dir, f"metrics.{number}.json")):
        number += 1
    os.rename(path, kept)
    logger.warning("%s of an earlier run is kept as %s", path, kept)
