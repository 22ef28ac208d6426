"""Starting the processes of one machine, and ending with them."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any

import torch.distributed as dist

from ..errors import ConfigError
from .alarm import GRACE, Alarm
from .places import Place

_PATIENCE = 2 * GRACE  # seconds after a failure in which the other processes have to end


def spawn(
    function: Callable[..., int],
    arguments: tuple[Any, ...],
    places: Sequence[Place],
) -> int:
    """Calls ``function(place, *arguments)`` in a new process for every place, and waits for all.

    The parent on the first machine opens the port at which all meet: it outlives every process.
    SIGTERM is handed on to the processes. When one fails, the others are told, on all machines;
    those of this machine that do not end then are killed.

    Returns:
        0, or the exit code of the process that failed first; 128 + signal for one that was killed.

    Raises:
        ConfigError: the port is taken.
    """
    store = None
    if places[0].rank == 0:
        store = _open(places[0])
        places = [dataclasses.replace(place, port=store.port) for place in places]
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(
            target=_child,
            args=(function, place, *arguments),
            name=f"process {place.rank} of {place.world_size}",
        )
        for place in places
    ]
    with _forwarding(signal.SIGTERM, processes):
        code = _wait(processes, lambda code: _tell(places[0], store, code))
    if code and store is not None:
        with contextlib.suppress(RuntimeError):
            Alarm(store).linger(places[0].world_size)
    return code


def _open(place: Place) -> dist.TCPStore:
    try:
        return dist.TCPStore(place.host, place.port, is_master=True, wait_for_workers=False)
    except RuntimeError as error:
        raise ConfigError(
            f"--dist-url tcp://{place.host}:{place.port}: the port cannot be opened here "
            f"({str(error).strip().splitlines()[0]}); another run may have it: take another one, "
            "or on one machine leave --dist-url out"
        ) from error


def _child(function: Callable[..., int], *arguments: Any) -> None:
    try:
        sys.exit(function(*arguments))
    except KeyboardInterrupt:  # before the function could handle it
        sys.exit(130)


def _wait(processes: Sequence[BaseProcess], tell: Callable[[int], bool]) -> int:
    """Waits for all; calls ``tell`` with the exit code of the first one that fails, if one does."""
    running = {process.sentinel: process for process in processes}
    failure, deadline = 0, None
    while running:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        ready = wait(list(running), left)
        for process in [running[sentinel] for sentinel in running if sentinel in ready]:
            del running[process.sentinel]
            process.join()
            if process.exitcode and not failure:
                failure = process.exitcode if process.exitcode > 0 else 128 - process.exitcode
                deadline = time.monotonic() + _PATIENCE
                if tell(failure) and process.exitcode < 0:
                    name = signal.Signals(-process.exitcode).name
                    print(f"{process.name} was ended by {name}", file=sys.stderr, flush=True)
        if not ready:
            for process in running.values():
                process.kill()
            deadline = None
    return failure


def _tell(place: Place, store: dist.TCPStore | None, code: int) -> bool:
    """Raises the alarm for a process that could not (one that was killed); True for the first."""
    try:
        store = store or dist.TCPStore(place.host, place.port, timeout=timedelta(seconds=5))
    except RuntimeError:  # the first machine has gone already
        return False
    return Alarm(store).sound(code)


@contextlib.contextmanager
def _forwarding(number: signal.Signals, processes: Sequence[BaseProcess]) -> Iterator[None]:
    """Starts the processes; within, a signal to this process goes to them instead."""
    stopped = False

    def forward(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        nonlocal stopped
        stopped = True
        for process in processes:
            if process.pid is not None and process.is_alive():
                os.kill(process.pid, number)

    before = signal.signal(number, forward)
    try:
        for process in processes:
            process.start()
            if stopped:  # while it was started, so that the signal missed it
                process.terminate()
        yield
    finally:
        signal.signal(number, before)
