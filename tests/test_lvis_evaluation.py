"""The LVIS evaluator: perfect masks, a hand-computed score, nothing found, no package."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_lvis_instances
from detectron2.data.datasets.lvis import get_lvis_instances_meta
from detectron2.structures import Boxes, Instances
from lvis_json import RARE, content, write

from ms_detr.data import DatasetError
from ms_detr.data.segmentations import rasterise
from ms_detr.lvis_evaluation import LvisEvaluator

needs_lvis = pytest.mark.skipif(
    importlib.util.find_spec("lvis") is None,
    reason="the package lvis is not installed (pip install --no-deps lvis)",
)
NAME = "evaluated_lvis_v1"


@pytest.fixture
def truth(tmp_path: Path):
    """The content of a registered json in the format of LVIS."""
    made = content()
    path = write(tmp_path, made)
    register_lvis_instances(NAME, get_lvis_instances_meta("lvis_v1"), str(path), f"{tmp_path}/")
    yield made
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


def detections(annotations: list[dict], score: float = 0.9) -> Instances:
    found = Instances((80, 100))
    boxes = torch.tensor([a["bbox"] for a in annotations]).reshape(-1, 4)
    found.pred_boxes = Boxes(torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1))
    found.scores = torch.full((len(annotations),), score)
    found.pred_classes = torch.tensor([a["category_id"] - 1 for a in annotations]).long()
    masks = [rasterise(a["segmentation"], 80, 100) for a in annotations]
    found.pred_masks = torch.from_numpy(np.array(masks, dtype=bool).reshape(-1, 80, 100))
    return found


def evaluate(truth: dict, keep=lambda annotation: True, **options) -> dict:
    evaluator = LvisEvaluator(NAME, distributed=False, **options)
    evaluator.reset()
    for image in truth["images"]:
        mine = [a for a in truth["annotations"] if a["image_id"] == image["id"] and keep(a)]
        evaluator.process([{"image_id": image["id"]}], [{"instances": detections(mine)}])
    return evaluator.evaluate()


@needs_lvis
def test_perfect_masks_give_100(truth, tmp_path: Path) -> None:
    results = evaluate(truth, output_dir=str(tmp_path / "out"))
    for task in ("bbox", "segm"):
        for name in ("AP", "AP50", "AP75", "APr", "APc", "APf"):
            assert results[task][name] == pytest.approx(100), (task, name)
    assert (tmp_path / "out" / "lvis_instances_results.json").is_file()
    assert not hasattr(np, "float")


@needs_lvis
def test_a_missed_rare_class_costs_the_rare(truth) -> None:
    results = evaluate(truth, lambda a: a["category_id"] != RARE)["segm"]
    assert results["APr"] == pytest.approx(0)
    assert [results["APc"], results["APf"]] == pytest.approx([100, 100])
    assert results["AP"] == pytest.approx(100 * 2 / 3)


@needs_lvis
def test_undefined_numbers_are_nan(truth, tmp_path: Path) -> None:
    nothing = evaluate(truth, lambda a: False, tasks=("bbox", "segm"))
    assert set(nothing) == {"bbox", "segm"}
    assert all(math.isnan(value) for value in nothing["segm"].values())
    truth["annotations"] = [a for a in truth["annotations"] if a["category_id"] != RARE]
    write(tmp_path, truth)
    numbers = evaluate(truth)["segm"]
    assert math.isnan(numbers["APr"]) and numbers["APf"] == pytest.approx(100)


def test_without_the_package_the_command_is_named(truth, monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DatasetError, match="pip install --no-deps lvis"):
        LvisEvaluator(NAME)
