"""Memory does not grow with time: training, its histories, its workers; a large evaluation."""

from __future__ import annotations

import importlib
import mmap
import os
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from ms_detr.engine import Trainer
from ms_detr.engine.histories import LENGTH

MIB = 2**20


@pytest.fixture
def runs(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The long runs of tools/benchmark_memory.py."""
    monkeypatch.syspath_prepend(str(repository / "tools"))
    return importlib.import_module("memory_runs")


class OneWeight(nn.Module):
    """As little as can be trained."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, batch: list) -> dict[str, torch.Tensor]:
        return {"a/0/l1": self.weight.abs()}


def test_histories_end(monkeypatch):
    """Every scalar keeps its last values, whoever stores it, and its average over all."""
    monkeypatch.setattr("ms_detr.engine.histories.LENGTH", 5)
    model = OneWeight()
    trainer = Trainer(model, iter(lambda: [], None), torch.optim.SGD(model.parameters(), 0.01))
    trainer.train(0, 12)
    histories = trainer.storage.histories()
    assert {"total_loss", "a", "a/0/l1", "grad_norm", "data_time"} <= set(histories)
    for name, history in histories.items():
        values = history.values()
        assert len(values) == 5 and [iteration for _, iteration in values][-1] == 11, name
    assert LENGTH >= 1000  # the progress line takes the median of so many times


def test_slope(runs):
    assert runs.slope([0, 10, 20], [5, 7, 9]) == pytest.approx(0.2)
    assert runs.slope(range(100), [3.0] * 100) == pytest.approx(0)


def test_a_process_that_grows_is_seen(runs):
    before = runs.resident_mib(os.getpid())
    held = mmap.mmap(-1, 128 * MIB)  # fresh pages, whatever the process has kept
    np.frombuffer(held, dtype=np.uint8)[:] = 1
    assert runs.resident_mib(os.getpid()) - before == pytest.approx(128, abs=8)
    del held
    assert runs.resident_mib(2**22 + 1) == 0 and runs.children_of(2**22 + 1) == []


@pytest.mark.slow
def test_training_of_2000_iterations(runs, tmp_path):
    """At most 4 MiB more each thousand iterations, over the second half."""
    samples = runs.train_and_sample(tmp_path, 2000)
    half = samples[len(samples) // 2 :]
    assert len(half) > 50 and half[0][0] >= 900
    iterations = [row[0] for row in half]
    for column in (1, 2):  # the process, and its data workers
        assert 1000 * runs.slope(iterations, [row[column] for row in half]) < 4


@pytest.mark.slow
def test_evaluation_of_5000_images(runs, tmp_path):
    """300 detections each: at most 700 MiB; detectron2's evaluator takes 3.5 GB and more."""
    done = runs.evaluate_generated(tmp_path, "ours", 5000)
    assert done["bytes"] < 700 * MIB
    assert 0 < done["results"]["AP"] < 1
