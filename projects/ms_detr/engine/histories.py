"""The values of scalars that a long run keeps in memory."""

from __future__ import annotations

from detectron2.engine import HookBase
from fvcore.common.history_buffer import HistoryBuffer

LENGTH = 1000
"""Iterations that are looked back at: for the time that is left, medians of 20 for the rest."""


class ShortHistories(HookBase):
    """Keeps the last `LENGTH` values of every scalar; detectron2 keeps a million.

    With a hundred scalars (a loss per layer, term and supervision) that would be about 12 MB more
    every thousand iterations, a gigabyte in a run of twelve epochs of COCO.
    """

    def before_train(self) -> None:
        histories = self.trainer.storage.histories()
        histories.default_factory = lambda: HistoryBuffer(max_length=LENGTH)
