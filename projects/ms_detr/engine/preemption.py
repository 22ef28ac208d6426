"""Being told to stop: by a scheduler, or by a person with ``kill``."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable, Iterator
from types import FrameType, TracebackType
from typing import Any


class Stopped(Exception):
    """An evaluation is left because the process was told to stop; never seen outside the loop."""


class StopSignals:
    """Notes the first SIGTERM or SIGUSR1 while it is entered, instead of dying of it.

    SLURM sends SIGTERM before it takes a machine away, and with ``--signal=USR1@60`` SIGUSR1
    before that. A second SIGTERM ends the process at once. Outside the main thread, where Python
    has no signals, nothing is ever noted.
    """

    def __init__(self) -> None:
        self.received: str | None = None  # the signal's name
        self._process = os.getpid()
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        self.received, self._process = None, os.getpid()
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
        while self._before:
            signal.signal(*self._before.popitem())

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return  # a forked worker of a loader, which ends with its parent
        if self.received is None:
            self.received = signal.Signals(number).name
        if number == signal.SIGTERM:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


class StoppableLoader:
    """A loader that raises :class:`Stopped` at the next batch once a signal has come."""

    def __init__(self, loader: Iterable[Any], signals: StopSignals) -> None:
        self.loader, self.signals = loader, signals

    def __len__(self) -> int:
        return len(self.loader)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        try:
            for batch in self.loader:
                if self.signals.received:
                    raise Stopped
                yield batch
        except RuntimeError as error:
            # A scheduler signals the whole group; torch says so when a worker dies of it.
            if self.signals.received:
                raise Stopped from error
            raise
