"""The benchmark of data loading: its images, its parts, and the need that it compares with."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def tool(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(repository / "tools"))
    return importlib.import_module("benchmark_data")


@pytest.fixture
def records(tool, tmp_path) -> list[dict]:
    return tool.generated_records(tmp_path, 2)


def test_images_are_as_large_as_those_of_coco(records):
    for record in records:
        with Image.open(record["file_name"]) as image:
            assert image.size == (640, 480) == (record["width"], record["height"])
        assert 60_000 < Path(record["file_name"]).stat().st_size < 200_000
        assert len(record["annotations"]) == 7
        for entry in record["annotations"]:
            x, y, width, height = entry["bbox"]
            assert 0 <= x < x + width <= 640 and 0 <= y < y + height <= 480
            corners = np.reshape(entry["segmentation"][0], (-1, 2))
            np.testing.assert_allclose(corners.min(0), [x, y])


@pytest.mark.parametrize("name", ["boxes", "masks", "jitter"])
def test_recipes_map_the_images(tool, records, name):
    mapper = tool._mapper(name)
    for record in records:
        mapped = mapper(record)
        assert mapped["image"].shape[0] == 3 and mapped["instances"].has("gt_boxes")
        assert mapped["instances"].has("gt_masks") == (name != "boxes")


def test_parts_and_need(tool, records):
    rate, workers = tool.mapper_figures("masks", records, need=4.0)
    assert list(rate.arms) == [f"{part} ms" for part in tool.PARTS]
    assert all(value >= 0 for value in rate.arms.values()) and rate.arms["decode ms"] > 0
    assert sum(rate.arms.values()) == pytest.approx(1000 / rate.value, rel=0.5)
    assert workers.value == pytest.approx(4 / rate.value) and workers.goal == 4


def test_wrong_arguments(tool, tmp_path, capsys):
    for arguments in (["--step-seconds", "0"], ["--images", str(tmp_path)]):
        with pytest.raises(SystemExit):
            tool.main(arguments)
    assert "has no .jpg file" in capsys.readouterr().err


@pytest.mark.slow
def test_figures(tool, tmp_path):
    file = tmp_path / "data.json"
    assert tool.main(["--quick", "--only", "boxes", "--json", str(file)]) == 0
    figures = json.loads(file.read_text())["figures"]
    assert [figure["name"] for figure in figures] == [
        "boxes: images per second of a worker",
        "boxes: workers that a GPU needs",
        "boxes: loader, 2 workers / 1",
    ]
    assert set(figures[2]["arms"]) == {f"{count} workers images/s" for count in (0, 1, 2)}
