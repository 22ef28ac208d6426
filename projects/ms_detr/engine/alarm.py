"""How the processes of a run learn that one of them has failed."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import sys
import threading
import time

from torch.distributed import PrefixStore, Store

logger = logging.getLogger(__name__)

PERIOD = 0.5  # seconds between two looks
GRACE = 10.0  # seconds that a process has to end by itself, e.g. to finish a checkpoint
_GONE = 3  # exit code where nobody is left who knows another one


class Alarm:
    """A note on a store that all processes of a run can reach: one has failed, with this code.

    Args:
        store: that all of them use, on a connection of its own: nothing on it may block.
        attempt: tells apart several starts on the same store.
    """

    def __init__(self, store: Store, attempt: str = "0") -> None:
        self._store = PrefixStore(f"ms_detr/alarm/{attempt}", store)
        self._code: int | None = None

    def sound(self, code: int) -> bool:
        """Raises the alarm; True for the first who does, which is the one to say what happened."""
        try:
            if self._store.add("sounded", 1) > 1:
                return False
            self._store.set("code", str(code))
        except RuntimeError:
            logger.debug("the store is gone, nobody hears the alarm", exc_info=True)
        return True

    def code(self) -> int | None:
        """Exit code of the process that failed first; None as long as all is well.

        Raises:
            RuntimeError: the store is gone.
        """
        if self._code is None and self._store.check(["code"]):
            self._code = int(self._store.get("code"))
        return self._code

    def wait(self, seconds: float) -> int | None:
        """The code, as soon as there is one; None if there is none after ``seconds``."""
        end = time.monotonic() + seconds
        try:
            while (code := self.code()) is None and time.monotonic() < end:
                time.sleep(0.05)
        except RuntimeError:
            return None
        return code

    def hear(self, rank: int) -> None:
        """Notes that a process knows."""
        self._store.set(f"heard/{rank}", "")

    def linger(self, world_size: int, seconds: float = 5.0) -> None:
        """Keeps the store of this process alive until all processes know."""
        names = [f"heard/{rank}" for rank in range(world_size)]
        end = time.monotonic() + seconds
        while not self._store.check(names) and time.monotonic() < end:
            time.sleep(0.05)


class Watch(threading.Thread):
    """Ends this process if the run has failed elsewhere, however it is blocked.

    A process whose partner is gone may wait in a collective operation for as long as its timeout.
    The run has failed elsewhere if the alarm was raised, the store is gone, or the process that
    started this one is. The main thread then has ``GRACE`` seconds to notice by itself.
    """

    def __init__(self, alarm: Alarm, rank: int) -> None:
        super().__init__(name="watch", daemon=True)
        self._alarm, self._rank = alarm, rank
        self._ended = threading.Event()

    def run(self) -> None:
        """Looks every ``PERIOD`` seconds."""
        while not self._ended.wait(PERIOD):
            code = self._look()
            if code is None:
                continue
            if not self._ended.wait(GRACE):
                if code == _GONE:
                    where = "the first machine, or the parent of this process, is gone"
                    print(f"process {self._rank} ends: {where}", file=sys.stderr, flush=True)
                os._exit(code)
            return

    def end(self) -> None:
        """To be called when this process has done its part, before the store may go."""
        self._ended.set()
        self.join()

    def _look(self) -> int | None:
        parent = multiprocessing.parent_process()
        if parent is not None and not parent.is_alive():
            return _GONE
        try:
            code = self._alarm.code()
        except RuntimeError:
            return _GONE
        if code is not None:
            with contextlib.suppress(RuntimeError):
                self._alarm.hear(self._rank)
        return code
