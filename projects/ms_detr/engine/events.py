"""What a run has logged so far: in the checkpoint, and cut back to it when a run goes on."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

from detectron2.utils.events import EventStorage

from .files import write_atomically

logger = logging.getLogger(__name__)

WINDOW = 20  # values that writers smooth over
# Measured on the machine, iteration by iteration: a resumed run measures anew.
MEASURED = {"time", "data_time", "rank_data_time", "eta_seconds"}


def storage_state(storage: EventStorage) -> dict[str, Any]:
    """The last values of every scalar but times: all that a writer will ever read of the past.

    Returns:
        For each name, in the order of the storage, its smoothing hint and its last ``WINDOW``
        pairs of value and iteration; numbers and strings only.
    """
    hints, histories = storage.smoothing_hints(), storage.histories()
    return {
        name: {
            "smoothed": hints[name],
            "values": [(float(v), int(i)) for v, i in histories[name].values()[-WINDOW:]],
        }
        for name in storage.latest()
        if name not in MEASURED
    }


def restore_storage(storage: EventStorage, state: dict[str, Any]) -> None:
    """Puts :func:`storage_state` into a new storage; its iteration stays as it is."""
    now = storage.iter
    for name, scalar in state.items():
        for value, iteration in scalar["values"]:
            storage.iter = iteration
            storage.put_scalar(name, value, smoothing_hint=scalar["smoothed"])
    storage.iter = now


def last_iteration(metrics_json: str | os.PathLike[str]) -> int:
    """The iteration of the last whole line of ``metrics.json``; -1 if there is none."""
    numbers = [_iteration(line) for line in _lines(metrics_json)]
    return next((number for number in reversed(numbers) if number is not None), -1)


def cut_back(metrics_json: str | os.PathLike[str], iteration: int) -> None:
    """Drops the lines after ``iteration`` and a torn last one; what comes before stays as it is.

    A run that goes on from a checkpoint writes these lines again.
    """
    lines = _lines(metrics_json)
    numbers = [_iteration(line) for line in lines]
    # Only the last line can be torn; others that cannot be read are not ours to delete.
    kept = [
        line
        for position, (line, number) in enumerate(zip(lines, numbers), 1)
        if (number is None and position < len(lines))
        or (number is not None and number <= iteration)
    ]
    if len(kept) < len(lines):
        logger.info(
            "%s: %d lines after iteration %d will be written again",
            metrics_json, len(lines) - len(kept), iteration,
        )  # fmt: skip
        write_atomically(metrics_json, lambda file: file.writelines(kept), "the metrics")


def _lines(path: str | os.PathLike[str]) -> list[bytes]:
    try:
        return Path(path).read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return []


def _iteration(line: bytes) -> int | None:
    """The iteration of a line; None if the line is torn or not one of ours."""
    try:
        number = json.loads(line)["iteration"] if line.endswith(b"\n") else None
    except (ValueError, KeyError, TypeError):
        return None
    return number if isinstance(number, int) else None
