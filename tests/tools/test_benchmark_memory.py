"""The benchmark of memory: two evaluators that agree, a training that is sampled."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def tool(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(repository / "tools"))
    return importlib.import_module("benchmark_memory")


def test_both_evaluators_see_the_same(tool, tmp_path):
    from detectron2.data import DatasetCatalog, MetadataCatalog

    runs = importlib.import_module("memory_runs")
    results = []
    for who in ("ours", "detectron2"):
        folder = tmp_path / who
        folder.mkdir()
        results.append(runs.evaluate_generated(folder, who, 3)["results"])
        DatasetCatalog.remove("generated")
        MetadataCatalog.remove("generated")
    assert results[0] == pytest.approx(results[1], abs=0, nan_ok=True)


@pytest.mark.slow
def test_figures(tool, tmp_path, capsys):
    file, picture = tmp_path / "memory.json", tmp_path / "memory.png"
    tool.main(["--quick", "--threads", "1", "--json", str(file), "--plot", str(picture)])
    figures = {f["name"]: f for f in json.loads(file.read_text())["figures"]}
    evaluation = figures["evaluation, 500 images x 300: peak memory"]
    assert evaluation["value"] == evaluation["arms"]["ours MiB"] < evaluation["goal"]
    assert figures["evaluation, 500 images x 300: memory, detectron2's / ours"]["value"] > 1.5
    for who in ("process", "data workers"):
        assert f"training, 200 iterations: growth of the {who}" in figures
    assert "MiB per 1,000" in capsys.readouterr().out
    assert picture.read_bytes().startswith(b"\x89PNG")
