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
from interrupted import assert_same_run, command, environment, train, wait_for
from lives import Life

# Everything happens often, so that a kill at any moment is a kill inside something.
OFTEN = (
    "train.max_iter=120", "train.checkpointer.period=1", "train.eval_period=5",
    "train.log_period=3",
)  # fmt: skip
TRIES = 20


def saved(out: Path) -> str:
    try:
        return (out / "last_checkpoint").read_text()
    except FileNotFoundError:
        return ""


def killed_run(
    out: Path, scenes: Path, kills: int, processes: int, chance: random.Random
) -> dict[str, int]:
    """A run that is killed at random moments until ``kills`` have hit it, then left to its end.

    Of four lives two last for some checkpoints and some milliseconds, so that the run gets on on
    any machine, one dies while it writes a checkpoint, and one after a fraction of a second, which
    may be before it has begun to train.
    """
    found = {"kills": 0, "inside a checkpoint": 0}
    while True:
        kind = found["kills"] % 4 if found["kills"] < kills else None
        left, last = chance.randint(1, 8), saved(out)
        life = Life(out, scenes, OFTEN, processes, dies_writing=left if kind == 1 else 0)
        until = time.monotonic() + chance.uniform(0, 0.6)
        while None in (codes := life.codes()):
            if saved(out) != last:
                left, last = left - 1, saved(out)
            if kind in (0, 2) and left <= 0 or kind == 3 and time.monotonic() >= until:
                time.sleep(chance.uniform(0, 0.02))
                life.kill()
                break
            time.sleep(0.001)
        else:
            if kind != 1 or codes[0] != -signal.SIGKILL:
                assert not any(codes), life.said()
                return found
        found["kills"] += 1
        found["inside a checkpoint"] += bool(list(out.glob("*.pth.tmp-*")))


@pytest.fixture(scope="module")
def often(scenes, tmp_path_factory):
    """The undisturbed run that is saved, evaluated and logged often."""
    out = tmp_path_factory.mktemp("often") / "run"
    train(out, scenes, *OFTEN)
    return out


@pytest.mark.parametrize(
    "seed, kills, processes",
    [
        (0, 8, 1),
        *(pytest.param(seed, 20, 1, marks=pytest.mark.slow) for seed in (1, 2)),
        pytest.param(0, 20, 2, marks=pytest.mark.slow),
    ],
)
def test_kills(seed, kills, processes, scenes, often, tmp_path):
    """A quarter of the kills hit a checkpoint that is being written, and others by chance."""
    whole = often
    if processes > 1:
        whole = tmp_path / "whole" / "run"
        whole.parent.mkdir()
        Life(whole, scenes, OFTEN, processes).wait()
    chance, found = random.Random(seed), {"kills": 0}
    for _ in range(TRIES):  # a run that ended before its last kill is done again
        shutil.rmtree(tmp_path / "killed", ignore_errors=True)
        (tmp_path / "killed").mkdir()
        found = killed_run(tmp_path / "killed" / "run", scenes, kills, processes, chance)
        if found["kills"] == kills:
            break
    assert found["kills"] == kills and found["inside a checkpoint"] >= kills // 4
    assert_same_run(tmp_path / "killed" / "run", whole)


def test_a_kill_inside_the_first_checkpoint(scenes, often, tmp_path):
    """Nothing is saved yet: the run begins anew, and what was left over is gone."""
    out = tmp_path / "run"
    life = Life(out, scenes, OFTEN, dies_writing=1)
    while None in (codes := life.codes()):
        time.sleep(0.01)
    assert codes == [-signal.SIGKILL], life.said()
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
