"""Being told to stop: by a scheduler, or by a person with ``kill``."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from types import FrameType, TracebackType
from typing import Any

from detectron2.utils import comm


class Stopped(Exception):
    """An evaluation is left because the process was told to stop; never seen outside the loop."""


class StopSignals:
    """Notes the first SIGTERM or SIGUSR1 while it is entered, instead of dying of it.

    SLURM sends SIGTERM before it takes a machine away, and with ``--signal=USR1@60`` SIGUSR1
    before that. A second SIGTERM ends the process at once; what follows the first within
    ``SAME`` seconds is taken for the same one, which came on two ways: to the whole group, and
    from the parent. It may be entered again within. Outside the main thread, where Python has no
    signals, nothing is ever noted.
    """

    SAME = 2.0

    def __init__(self) -> None:
        self.received: str | None = None  # the signal's name
        self._terminated: float | None = None  # when the first SIGTERM came
        self._process = os.getpid()
        self._before: dict[signal.Signals, Any] = {}
        self._depth = 0

    def __enter__(self) -> StopSignals:
        self._depth += 1
        if self._depth > 1:
            return self
        self.received, self._terminated, self._process = None, None, os.getpid()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGUSR1):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._depth -= 1
        while self._before and not self._depth:
            signal.signal(*self._before.popitem())

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return  # a forked worker of a loader, which ends with its parent
        self.received = self.received or signal.Signals(number).name
        if number != signal.SIGTERM:
            return
        now = time.monotonic()
        if self._terminated is None:
            self._terminated = now
        elif now - self._terminated > self.SAME:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)


class StoppableLoader:
    """A loader for evaluation that ends early once a process was told to stop.

    A process that was told reads no further batch. When all have read what they read, they agree:
    if one was told, all raise :class:`Stopped`, and none waits for another's predictions.
    """

    def __init__(self, loader: Iterable[Any], signals: StopSignals) -> None:
        self.loader, self.signals = loader, signals

    def __len__(self) -> int:
        return len(self.loader)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        yield from self._until_told()
        if any(comm.all_gather(self.signals.received is not None)):
            raise Stopped

    def _until_told(self) -> Iterator[Any]:
        try:
            for batch in self.loader:
                if self.signals.received:
                    return
                yield batch
        except RuntimeError:
            # A scheduler signals the whole group; torch says so when a worker dies of it.
            if not self.signals.received:
                raise
