"""The benchmark of a training step measures what it says."""

from __future__ import annotations

import importlib.util
import json
import sys

import pytest


@pytest.fixture(scope="module")
def tool(repository):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(repository / "tools"))
        path = repository / "tools" / "benchmark_step.py"
        spec = importlib.util.spec_from_file_location("benchmark_step", path)
        module = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, "benchmark_step", module)
        spec.loader.exec_module(module)
        yield module


def test_batch_is_the_stated_one(tool):
    batch = tool.batch_of(5)
    assert len(batch) == 2
    for image in batch:
        objects = image["instances"]
        assert image["image"].shape == (3, 256, 320) and len(objects) == 7
        boxes, masks = objects.gt_boxes.tensor, objects.gt_masks
        assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= boxes.new_tensor([320, 256])).all()
        # Ellipses fill their boxes up to the pixels' size.
        assert (masks.get_bounding_boxes().tensor - boxes).abs().max() < 2


def test_comparisons_name_models(tool):
    for comparison in tool.COMPARISONS:
        for name in (comparison.model, comparison.base):
            assert (tool.CONFIGS / "models" / f"{name}.py").is_file()


@pytest.mark.slow
def test_figures(tool, tmp_path, capsys):
    file = tmp_path / "step.json"
    code = tool.main(["--quick", "--runs", "5", "--threads", "1", "--json", str(file)])
    figures = json.loads(file.read_text())["figures"]
    assert [figure["unit"] for figure in figures] == ["times", "times"]
    time, memory = figures
    assert all(value > 0 for figure in figures for value in figure["arms"].values())
    assert time["value"] == pytest.approx(
        time["arms"]["ms_detr_mask_small ms"] / time["arms"]["ms_detr_small ms"]
    )
    small = memory["arms"]["ms_detr_small MiB"]
    assert memory["value"] == pytest.approx(memory["arms"]["ms_detr_mask_small MiB"] / small)
    assert code == 0 and "peak memory" in capsys.readouterr().out


def test_goals(tool):
    (masks,) = [row for row in tool.COMPARISONS if row.name == "masks"]
    assert (masks.time, masks.memory) == (1.35, 1.30)
