"""The benchmark of scaling fits what it says, and measures what it names."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def tool(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(repository / "tools"))
    return importlib.import_module("benchmark_scaling")


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_exponent_of_a_power(tool, power):
    x = [100.0, 300.0, 600.0, 1000.0, 3000.0]
    assert tool.exponent(x, [7 * value**power for value in x]) == pytest.approx(power, abs=1e-9)


def test_exponent_is_that_of_the_upper_half(tool):
    """A fixed cost hides below; the straight line is laid where it does not count any more."""
    x = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    y = [5.0, 5.0, 5.0, 8.0, 16.0, 32.0]
    assert tool.exponent(x, y) == pytest.approx(1)
    assert tool.exponent(x[:3], y[:3]) == pytest.approx(0)  # all of three points


def test_what_comes_in(tool):
    assert tool.VARIABLES["side"].x(320) == 320 * 320
    assert [tool.VARIABLES["objects"].x(count) for count in (0, 1000)] == [1, 1001]
    assert tool.VARIABLES["queries"].x(300) == 300
    ranges = {name: (v.values[0], v.values[-1]) for name, v in tool.VARIABLES.items()}
    assert ranges["queries"] == (100, 3000) and ranges["side"] == (320, 1600)
    assert ranges["objects"] == (0, 1000)
    for variable in tool.VARIABLES.values():
        assert list(variable.values) == sorted(set(variable.values))
        assert max(variable.goals) <= (2 if variable.field == "queries" else 1.1)


def test_sizes(tool):
    sizes = tool.Sizes(queries=20, side=64, objects=3, images=2)
    assert tool.Sizes.of(sizes.text()) == sizes
    assert sizes.shrunk("queries") == tool.Sizes(queries=20, side=96, objects=3, images=2)
    models = importlib.import_module("scaling_models")
    batch = models.batch_of(sizes, 5)
    assert [item["image"].shape for item in batch] == [(3, 64, 64)] * 2
    boxes = batch[0]["instances"].gt_boxes.tensor
    assert boxes.shape == (3, 4) and (boxes[:, :2] < boxes[:, 2:]).all()
    assert (boxes >= 0).all() and (boxes <= 64).all()


def test_jobs_run(tool):
    for objects in (0, 3):
        sizes = tool.Sizes(queries=20, side=64, objects=objects, images=1)
        for make in tool.WORK.values():
            make(sizes, "cpu")()


@pytest.mark.slow
def test_figures(tool, tmp_path, capsys):
    file, picture = tmp_path / "scaling.json", tmp_path / "scaling.png"
    arguments = ["--quick", "--only", "side", "--runs", "5", "--threads", "1"]
    assert tool.main([*arguments, "--json", str(file), "--plot", str(picture)]) == 0
    figures = {f["name"]: f for f in json.loads(file.read_text())["figures"]}
    assert set(figures) == {
        f"{work}, {what} against pixels of an image"
        for work in ("step", "inference")
        for what in ("time", "memory")
    }
    for figure in figures.values():
        values = list(figure["arms"].values())
        assert len(values) == 3 and values[0] < values[-1]
    assert "exponent" in capsys.readouterr().out
    assert picture.read_bytes().startswith(b"\x89PNG")
