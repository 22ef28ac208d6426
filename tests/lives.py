"""Lives of an interrupted run: processes that train, and can be killed at any moment."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import time
from pathlib import Path

import torch
import torch.distributed as dist
from interrupted import train

DEADLINE = 300.0  # seconds; only a hang takes that long
# Forked from a fresh process that has imported everything: a fork of the test's own process could
# inherit a lock that another of its threads holds, and wait for it for ever.
_LIVES = multiprocessing.get_context("forkserver")
_LIVES.set_forkserver_preload(["lives", "ms_detr.engine", "ms_detr.config"])


class Life:
    """A run that begins, or goes on, in ``processes`` processes with their workers.

    Args:
        out: output directory of the run; logs are written beside it.
        given: overrides of the tiny config.
        dies_writing: its first process kills itself half-way through the so many'th file that it
            saves, counted from 1; 0: never.
    """

    def __init__(
        self, out: Path, scenes: Path, given: tuple[str, ...],
        processes: int = 1, dies_writing: int = 0,
    ) -> None:  # fmt: skip
        self.log = out.parent / "log"
        meeting = out.parent / f"meeting-{time.monotonic_ns()}"
        self.processes = [
            _LIVES.Process(
                target=_live, args=(self.log, meeting, rank, processes),
                kwargs={"run": (out, scenes, *given), "dies_writing": dies_writing},
            )
            for rank in range(processes)
        ]  # fmt: skip
        for process in self.processes:
            process.start()
        self.deadline = time.monotonic() + DEADLINE

    def codes(self) -> list[int | None]:
        """Exit codes, ``None`` of those that live; ends all when one has failed.

        Raises:
            AssertionError: after the deadline.
        """
        codes = [process.exitcode for process in self.processes]
        if any(codes):
            self.kill()
        elif None in codes and time.monotonic() > self.deadline:
            self.kill()
            raise AssertionError(f"hangs after:\n{self.said()}")
        return codes

    def wait(self) -> None:
        """Waits for the end, which has to be a good one."""
        while None in (codes := self.codes()):
            time.sleep(0.01)
        assert not any(codes), self.said()

    def kill(self) -> None:
        """SIGKILL for all of its processes and their workers."""
        for process in self.processes:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:  # not yet the head of a group, or ended
                process.kill()
            except PermissionError:  # ended
                pass
        for process in self.processes:
            process.join()

    def said(self) -> str:
        """The end of what its processes wrote."""
        return self.log.read_text(errors="replace")[-3000:] if self.log.exists() else "nothing"


def _live(log: Path, meeting: Path, rank: int, processes: int, run: tuple, dies_writing: int):
    os.setsid()  # its workers die with it
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    torch.set_num_threads(1)
    if processes > 1:
        _enter_group(meeting, rank, processes)
    if dies_writing and rank == 0:
        torch.save = _DeadlySave(torch.save, dies_writing)
    train(*run, resume=True)


class _DeadlySave:
    """``torch.save``, until the call in which the process dies with half of the file written."""

    def __init__(self, usual, calls: int) -> None:
        self.usual, self.left = usual, calls

    def __call__(self, content: object, file) -> None:
        self.left -= 1
        if self.left:
            return self.usual(content, file)
        whole = io.BytesIO()
        self.usual(content, whole)
        file.write(whole.getvalue()[: whole.tell() // 2])
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)


def _enter_group(meeting: Path, rank: int, processes: int) -> None:
    from detectron2.utils import comm

    dist.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=processes
    )
    if hasattr(comm, "create_local_process_group"):
        comm.create_local_process_group(processes)
    else:
        comm._LOCAL_PROCESS_GROUP = dist.new_group(list(range(processes)))
