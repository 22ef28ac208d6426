"""The values of scalars that a long run keeps in memory."""

from __future__ import annotations

from detectron2.utils.events import EventStorage
from fvcore.common.history_buffer import HistoryBuffer

LENGTH = 1000
"""Iterations that are looked back at: for the time that is left, medians of 20 for the rest."""


def keep_short_histories(storage: EventStorage) -> None:
    """Lets a new storage keep the last `LENGTH` values of a scalar; by itself it keeps a million.

    With a hundred scalars (a loss per layer, term and supervision) that would be about 12 MB more
    every thousand iterations, a gigabyte in a run of twelve epochs of COCO.
    """
    storage.histories().default_factory = lambda: HistoryBuffer(max_length=LENGTH)
