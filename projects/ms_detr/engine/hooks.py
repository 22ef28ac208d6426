"""What is done after the update of an iteration, in this order: save, evaluate, write."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm

from .best import BestWeights
from .checkpoint import ReportingCheckpointer
from .checkpoint_files import FINAL, delete_old, name_of
from .events import cut_back
from .files import output_errors
from .results import Results, read_results, save_results
from .training_loop import AfterCheckpoint
from .writers import build_writers, quiet_event_thread

logger = logging.getLogger(__name__)


class SaveCheckpoints(AfterCheckpoint):
    """Saves every ``period`` iterations, at the end, and when the run is told to stop.

    Only the first process writes, and no other is asked for anything. What a resumed run may have
    to catch up with is the final checkpoint.

    Args:
        checkpointer: writes the files.
        period: in iterations.
        max_to_keep: how many of the numbered checkpoints stay; None keeps all.
        extra: more to save, tensors, numbers and strings.
    """

    def __init__(
        self,
        checkpointer: ReportingCheckpointer,
        period: int,
        max_to_keep: int | None,
        extra: dict[str, Any],
    ) -> None:
        self.checkpointer, self.period, self.max_to_keep = checkpointer, period, max_to_keep
        self.extra = extra
        self.saved = -1  # the iteration of the last checkpoint

    def before_train(self) -> None:
        self.saved = self.trainer.start_iter - 1

    def after_step(self) -> None:
        iteration, again = self.trainer.iter, self.trainer.catching_up
        if (iteration + 1) % self.period == 0 and not again:
            self._save(name_of(iteration))
        there = again and self.checkpointer.resumed_from == FINAL
        if iteration + 1 == self.trainer.max_iter and not there:
            self._save(FINAL)

    def after_train(self) -> None:
        iteration = self.trainer.iter
        if not self.trainer.stopping:
            return
        if self.saved != iteration:
            self._save(name_of(iteration))
        logger.info(
            "%s: stopped after iteration %d of %d, all is saved in %s; the same command with "
            "--resume goes on",
            self.trainer.signals.received or "a signal to another process",
            iteration + 1, self.trainer.max_iter, self.checkpointer.save_dir,
        )  # fmt: skip

    def _save(self, name: str) -> None:
        self.saved = self.trainer.iter
        if not comm.is_main_process():
            return
        if name == FINAL and self.trainer.ema is not None:
            self.trainer.ema.save(os.path.join(self.checkpointer.save_dir, f"{FINAL}_ema.pth"))
        self.checkpointer.save(name, iteration=self.saved, **self.extra)
        if self.max_to_keep is not None:
            with output_errors("the output directory", self.checkpointer.save_dir):
                delete_old(self.checkpointer.save_dir, self.saved, self.max_to_keep)


class Evaluate(AfterCheckpoint):
    """Evaluates every ``period`` iterations and at the end, and keeps the best weights.

    Args:
        period: in iterations; 0 evaluates at the end only.
        function: evaluates, on all processes; the first one's results count.
        results_json: receives the results of the last evaluation.
        best: told about every result.
    """

    def __init__(
        self, period: int, function: Callable[[], Results], results_json: str, best: BestWeights
    ) -> None:
        self.period, self.function = period, function
        self.results_json, self.best = results_json, best
        self.results: Results = {}

    def after_step(self) -> None:
        done, last = self.trainer.iter + 1, self.trainer.max_iter
        due = done >= last or (self.period > 0 and done % self.period == 0)
        known = self._recorded(done) if self.trainer.catching_up else None
        if self.trainer.stopping or (known is None and not due):
            return
        results = self.function() if known is None else known
        if comm.is_main_process():
            self.results = results
            flat = flatten_results_dict(self.results)
            self.trainer.storage.put_scalars(**flat, smoothing_hint=False)
            save_results(self.results_json, self.results, done)
            self.best.update(flat, self.trainer.iter)
        comm.synchronize()

    def _recorded(self, done: int) -> Results | None:
        """The results that the run had before it was resumed; the first process decides."""
        known = read_results(self.results_json, done) if comm.is_main_process() else None
        return comm.all_gather(known)[0]

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best.value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best.value = state["best"]


class WriteMetrics(AfterCheckpoint):
    """Writes ``metrics.json``, TensorBoard's events and the progress line every ``period``.

    A resumed run first cuts ``metrics.json`` back to what its checkpoint had seen written.
    """

    def __init__(self, output_dir: str, period: int) -> None:
        self.output_dir, self.period = output_dir, period
        self.written: int | None = None  # the last iteration that has its line
        self._writers: list[Any] = []

    def before_train(self) -> None:
        if not comm.is_main_process():
            return
        start = self.trainer.start_iter
        if self.written is None:
            self.written = start - 1
        if start > 0:
            cut_back(os.path.join(self.output_dir, "metrics.json"), self.written)
        quiet_event_thread()
        self._writers = build_writers(self.output_dir, self.trainer.max_iter, self.written)

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if not self.trainer.stopping and (done % self.period == 0 or done >= self.trainer.max_iter):
            self._write()

    def _write(self) -> None:
        for writer in self._writers:
            writer.write()
            self.written = getattr(writer, "written", self.written)

    def after_train(self) -> None:
        try:
            if not self.trainer.stopping:  # what is not written yet is in the checkpoint
                self._write()
            for writer in self._writers:
                writer.close()
        except RuntimeError as error:
            if not self.trainer.failed:
                raise
            logger.error("%s", error)  # the first error counts

    def state_dict(self) -> dict[str, Any]:
        return {} if self.written is None else {"written": self.written}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.written = state["written"]
