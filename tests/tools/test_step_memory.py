"""The memory of a step: weights as they are, and activations that grow with what comes in."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest
from detectron2.config import instantiate

CONFIG = "configs/models/ms_detr_small.py"


@pytest.fixture
def tool(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(repository / "tools"))
    return importlib.import_module("step_memory")


def test_memory_of_a_step(tool, repository):
    config = str(repository / CONFIG)
    one, two = (tool.step_memory(config, (96, 128), images, []) for images in (1, 2))
    detector = instantiate(tool.load_config(config).model)
    weights = 4 * sum(p.numel() for p in detector.parameters()) / 2**20
    assert one.arms["weights MiB"] == pytest.approx(weights)
    assert one.arms["averages MiB"] == pytest.approx(2 * weights)  # all of it is trained
    for name in ("forward MiB", "backward and gradients MiB"):
        assert 0 < one.arms[name] < two.arms[name]
    assert two.arms["forward MiB"] == pytest.approx(2 * one.arms["forward MiB"], rel=0.1)
    steps = max(one.arms["forward MiB"], one.arms["backward and gradients MiB"])
    assert one.value == pytest.approx(3 * weights + steps)


def test_what_saves_memory(tool, repository):
    config, size = str(repository / CONFIG), (96, 128)
    usual = tool.step_memory(config, size, 1, []).arms
    parts = ["encoder.layers", "decoder.layers"]
    recomputed = tool.step_memory(config, size, 1, [], parts).arms
    mixed = tool.step_memory(config, size, 1, [], bfloat16=True).arms
    assert recomputed["forward MiB"] < 0.9 * usual["forward MiB"]
    assert mixed["forward MiB"] < 0.9 * usual["forward MiB"]
    assert recomputed["weights MiB"] == mixed["weights MiB"] == usual["weights MiB"]


def test_wrong_arguments(tool, capsys):
    with pytest.raises(SystemExit):
        tool.main([CONFIG, "--images", "0"])
    assert "at least 1" in capsys.readouterr().err
