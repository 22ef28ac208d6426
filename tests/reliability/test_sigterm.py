"""SIGTERM and SIGUSR1: the run saves, says how to go on, and ends well."""

from __future__ import annotations

import os
import signal
import time

import pytest
from interrupted import (
    ScoreEvaluator,
    assert_same_run,
    command,
    start,
    train,
    wait_for,
)
from torch.utils.data import DataLoader

from ms_detr.data.workers import keep_workers
from ms_detr.engine.preemption import StoppableLoader, Stopped, StopSignals


@pytest.mark.parametrize(
    "name, at", [("SIGTERM", 1), ("SIGTERM", 8), ("SIGUSR1", 5), ("SIGTERM", 12)]
)
def test_stops_after_the_iteration(name, at, scenes, undisturbed, tmp_path, caplog):
    """Also where a checkpoint, an evaluation (8) or everything (12) is due."""
    out, before = tmp_path / "run", signal.getsignal(signal.SIGTERM)
    with caplog.at_level("INFO", "ms_detr"):
        assert train(out, scenes, f"model.at={at}", f"model.how={name}") == {}
    assert signal.getsignal(signal.SIGTERM) is before
    assert (
        f"{name}: stopped after iteration {at} of 12" in caplog.text and "--resume" in caplog.text
    )
    assert (out / "last_checkpoint").read_text() == (
        f"model_{at - 1:07d}.pth" if at < 12 else "model_final.pth"
    )
    train(out, scenes, resume=True)
    assert_same_run(out, undisturbed)


@pytest.mark.parametrize("period", [3, 4])
@pytest.mark.parametrize("image", [1, 6])
def test_stops_inside_an_evaluation(period, image, scenes, undisturbed, tmp_path):
    """With its iteration saved already (every 4) or not (every 3); the evaluation comes again."""
    out, given = tmp_path / "run", f"train.checkpointer.period={period}"
    count = ScoreEvaluator.evaluations
    assert train(out, scenes, given, f"dataloader.evaluator.signal_at={image}") == {}
    assert (out / "last_checkpoint").read_text() == "model_0000003.pth"
    assert not (out / "results.json").exists() and ScoreEvaluator.evaluations == count
    train(out, scenes, given, resume=True)
    assert_same_run(out, undisturbed)


def test_stopped_at_every_iteration(scenes, undisturbed, tmp_path):
    """Twelve processes for twelve iterations."""
    out = tmp_path / "run"
    for _ in range(12):
        train(out, scenes, "model.at=1", "model.how=SIGTERM", resume=True)
    train(out, scenes, resume=True)
    assert_same_run(out, undisturbed)


def test_a_second_signal_ends_at_once():
    child = os.fork()
    if not child:
        signals = StopSignals()
        with signals:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)  # the same one on another way
            signals.SAME = 0.0
            time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM


def test_both_signals_are_noted_and_restored():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)]
    with StopSignals() as signals:
        assert signals.received is None
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.received == "SIGUSR1"
    assert before == [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)]


def test_an_evaluation_reads_no_further_batch():
    signals, seen = StopSignals(), []
    with pytest.raises(Stopped):
        for batch in StoppableLoader(range(10), signals):
            seen.append(batch)
            signals.received = "SIGTERM" if batch == 3 else None
    assert seen == [0, 1, 2, 3]
    assert list(StoppableLoader([1, 2], StopSignals())) == [1, 2]
    assert len(StoppableLoader([1, 2], signals)) == 2


class Sleepy:
    """Items that take a while, and tell which process made them."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> int:
        time.sleep(0.01)
        return os.getpid()


def test_workers_outlive_a_signal_to_the_group():
    """Whether or not the loader has an initialisation of its own."""
    own = []
    for usual in (None, own.append):
        loader = DataLoader(Sleepy(), num_workers=2, worker_init_fn=usual)
        iterator = iter(keep_workers(loader))
        workers = {int(next(iterator)) for _ in range(2)}
        assert len(workers) == 2 and os.getpid() not in workers
        for worker in workers:
            os.kill(worker, signal.SIGTERM)
            os.kill(worker, signal.SIGUSR1)
        assert len(list(iterator)) == 38


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_the_whole_group_is_told(processes, scenes, tmp_path):
    """As a scheduler does it: parent, processes and workers get the signal; the code is 0."""
    given = ["train.max_iter=100000", "dataloader.train.num_workers=2", "train.eval_period=0",
             "train.checkpointer.period=50000"]  # fmt: skip
    out, log = tmp_path / "run", tmp_path / "log"
    run = start(command(out, scenes, *given, processes=processes), log)
    assert wait_for(run, out / "metrics.json", "total_loss"), log.read_text()
    os.killpg(run.pid, signal.SIGTERM)
    assert run.wait() == 0, log.read_text()
    text = log.read_text()
    assert "SIGTERM: stopped after iteration" in text and "Traceback" not in text
    (saved,) = out.glob("model_*.pth")
    done = int(saved.stem.removeprefix("model_")) + 1
    given[0] = f"train.max_iter={done + 3}"
    run = start(command(out, scenes, *given, "--resume", processes=processes), log)
    assert run.wait() == 0, log.read_text()
    assert (out / "model_final.pth").exists()
