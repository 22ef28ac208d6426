"""SIGKILL at random moments: what is resumed ends like a run that was never killed."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from interrupted import assert_same_run, command, environment, train, wait_for

# Everything happens often, so that a kill at any moment is a kill inside something.
OFTEN = (
    "train.max_iter=120", "train.checkpointer.period=1", "train.eval_period=5",
    "train.log_period=3",
)  # fmt: skip
KILLS = 20


def life(out: Path, scenes: Path, given: tuple[str, ...], processes: int) -> list[int]:
    """Starts the run, or goes on with it, in forks of this process; returns their numbers."""
    meeting = out.parent / f"meeting-{time.monotonic_ns()}"
    children = []
    for rank in range(processes):
        child = os.fork()
        if child:
            children.append(child)
            continue
        code = 1
        try:
            os.setsid()  # its workers die with it
            log = os.open(out.parent / f"log-{rank}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            if processes > 1:
                enter_group(meeting, rank, processes)
            train(out, scenes, *given, resume=True)
            code = 0
        finally:
            os._exit(code)
    return children


def enter_group(meeting: Path, rank: int, processes: int) -> None:
    from detectron2.utils import comm

    dist.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=processes
    )
    if hasattr(comm, "create_local_process_group"):
        comm.create_local_process_group(processes)
    else:
        comm._LOCAL_PROCESS_GROUP = dist.new_group(list(range(processes)))


def ended(children: list[int]) -> list[int] | None:
    """Exit codes once all have ended by themselves, or one has failed (-1: another, killed now)."""
    flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
    states = [os.waitid(os.P_PID, child, flags) for child in children]
    failed = any(state is not None and state.si_status for state in states)
    if any(state is None for state in states) and not failed:
        return None
    kill(children)
    return [-1 if state is None else state.si_status for state in states]


def kill(children: list[int]) -> None:
    for child in children:
        try:
            os.killpg(child, signal.SIGKILL)
        except ProcessLookupError:  # not yet the head of a group
            os.kill(child, signal.SIGKILL)
        except PermissionError:  # ended
            pass
    for child in children:
        os.waitpid(child, 0)


def saved(out: Path) -> str:
    try:
        return (out / "last_checkpoint").read_text()
    except FileNotFoundError:
        return ""


def killed_run(out: Path, scenes: Path, given: tuple[str, ...], processes: int, seed: int) -> dict:
    """A run that is killed at random moments until ``KILLS`` have hit it, then left to its end.

    Of four lives two last for some checkpoints and some milliseconds, so that the run gets on on
    any machine, one ends when a checkpoint is seen being written, and one after a fraction of a
    second, which may be before it has begun to train.
    """
    chance, found = random.Random(seed), {"kills": 0, "inside a checkpoint": 0}
    while True:
        children = life(out, scenes, given, processes)
        kind = found["kills"] % 4
        left, last = chance.randint(1, 8), saved(out)
        until = time.monotonic() + chance.uniform(0, 0.6)
        while True:
            codes = ended(children)
            if codes is not None:
                assert not any(codes), (out.parent / "log-0").read_text()[-3000:]
                return found
            if saved(out) != last:
                left, last = left - 1, saved(out)
            due = time.monotonic() >= until if kind == 3 else left <= 0
            if kind == 1 and due:
                due = bool(list(out.glob("*.pth.tmp-*")))
            if due and found["kills"] < KILLS:
                break
            time.sleep(0.0001 if kind == 1 else 0.001)
        if kind != 1:
            time.sleep(chance.uniform(0, 0.02))
        kill(children)
        found["kills"] += 1
        found["inside a checkpoint"] += bool(list(out.glob("*.pth.tmp-*")))


@pytest.fixture(scope="module")
def often(scenes, tmp_path_factory):
    """The undisturbed run that is saved, evaluated and logged often."""
    out = tmp_path_factory.mktemp("often") / "run"
    train(out, scenes, *OFTEN)
    return out


@pytest.mark.parametrize(
    "seed, processes",
    [
        (0, 1),
        *(pytest.param(seed, 1, marks=pytest.mark.slow) for seed in (1, 2)),
        pytest.param(0, 2, marks=pytest.mark.slow),
    ],
)
def test_twenty_kills(seed, processes, scenes, often, tmp_path):
    """Where it was counted, 5 to 8 of the 20 kills hit a checkpoint that was being written."""
    whole = often
    if processes > 1:
        whole = tmp_path / "whole" / "run"
        whole.parent.mkdir()
        children = life(whole, scenes, OFTEN, processes)
        while (codes := ended(children)) is None:
            time.sleep(0.01)
        assert not any(codes), (whole.parent / "log-0").read_text()[-3000:]
    found = {"kills": 0, "inside a checkpoint": 0}
    while found["kills"] < KILLS:  # one that was lucky is done again
        shutil.rmtree(tmp_path / "killed", ignore_errors=True)
        (tmp_path / "killed").mkdir()
        found = killed_run(tmp_path / "killed" / "run", scenes, OFTEN, processes, seed)
    print(found)
    assert_same_run(tmp_path / "killed" / "run", whole)


def test_a_kill_inside_the_first_checkpoint(scenes, often, tmp_path):
    """Nothing is saved yet: the run begins anew, and what was left over is gone."""
    out = tmp_path / "run"
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        usual = torch.save

        def save(content, file):
            usual(content, file)
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)

        torch.save = save
        try:
            train(out, scenes, *OFTEN)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert [path.name.partition("-")[0] for path in out.glob("*.pth*")] == ["model_0000000.pth.tmp"]
    train(out, scenes, *OFTEN, resume=True)
    assert_same_run(out, often)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_kills_of_the_command(processes, scenes, tmp_path):
    """``train_net.py`` with everything around it: three kills of the whole group."""
    given = ("train.max_iter=160", *OFTEN[1:], "dataloader.train.num_workers=1")
    whole, out = tmp_path / "whole", tmp_path / "run"
    done = subprocess.run(
        command(whole, scenes, *given, processes=processes), env=environment(),
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    chance = random.Random(0)
    for number in range(3):
        with open(tmp_path / "log", "ab") as log:
            run = subprocess.Popen(
                command(out, scenes, *given, "--resume", processes=processes),
                env=environment(), stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        wait_for(run, out / f"model_{40 * (number + 1):07d}*")
        time.sleep(chance.uniform(0, 0.05))
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    done = subprocess.run(
        command(out, scenes, *given, "--resume", processes=processes), env=environment(),
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert_same_run(out, whole)
