"""LVIS: its checks, its loader, its 1203 classes, and a clear error without its package."""

from __future__ import annotations

import importlib.util
import math
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
from detectron2.config import LazyConfig, instantiate
from detectron2.data import MetadataCatalog
from detectron2.data.datasets import register_lvis_instances
from detectron2.data.datasets.lvis import get_lvis_instances_meta
from lvis_json import COMMON, FREQUENT, RARE, content, write

from ms_detr.data import DatasetError, check_dataset, checked_dataset_dicts
from ms_detr.data.lvis import require_lvis

needs_lvis = pytest.mark.skipif(
    importlib.util.find_spec("lvis") is None,
    reason="the package lvis is not installed (pip install --no-deps lvis)",
)
NAME = "small_lvis_v1"


@pytest.fixture
def lvis(tmp_path: Path, catalog):
    """Registers the small set, changed by a function, as detectron2 registers LVIS."""

    def make(spoil=None) -> Path:
        made = content()
        if spoil is not None:
            spoil(made)
        path = write(tmp_path, made)
        meta = get_lvis_instances_meta("lvis_v1")
        register_lvis_instances(NAME, meta, str(path), f"{tmp_path}/")
        return path

    return make


def test_a_sound_set(lvis) -> None:
    lvis()
    for evaluation in (False, True):
        summary = check_dataset(NAME, evaluation=evaluation, maskless="error")
        assert (summary.num_images, summary.num_annotations) == (3, 5)
        assert len(summary.class_names) == len(MetadataCatalog.get(NAME).thing_classes) == 1203


DEFECTS = {
    "coco_url": (lambda c: c["images"][0].update(coco_url="1.jpg"), ["image 1", "folder/file"]),
    "no coco_url": (lambda c: c["images"][1].pop("coco_url"), ["image 2", 'lacks "coco_url"']),
    "class 1204": (
        lambda c: c["categories"].append({"id": 1204, "name": "x", "frequency": "r"}),
        ["category 1204", "not in 1 to 1203"],
    ),
    "frequency": (
        lambda c: c["categories"][3].update(frequency="often"),
        ["category 4", "frequency is 'often'"],
    ),
    "no neg_category_ids": (
        lambda c: c["images"][2].pop("neg_category_ids"),
        ["image 3", 'lacks "neg_category_ids"'],
    ),
    "no mask": (
        lambda c: c["annotations"][1].update(segmentation=[]),
        ["annotation 2 (image 1, val2017/000000000001.jpg)", "has no mask"],
    ),
    "no file": (
        lambda c: c["images"][0].update(coco_url="http://x/val2017/9.jpg"),
        ["image 1", "val2017/9.jpg", "does not exist"],
    ),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_a_broken_entry_is_named(lvis, name: str) -> None:
    spoil, words = DEFECTS[name]
    path = lvis(spoil)
    with pytest.raises(DatasetError) as caught:
        check_dataset(NAME, evaluation=True, maskless="error")
    for word in [str(path), *words]:
        assert word in str(caught.value)


def test_without_the_package_the_command_is_named(lvis, monkeypatch) -> None:
    lvis()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for call in (require_lvis, lambda: checked_dataset_dicts(NAME)):
        with pytest.raises(DatasetError, match="pip install --no-deps lvis"):
            call()


@needs_lvis
def test_the_config_loads_masks_and_repeats_rare_classes(repository, lvis) -> None:
    lvis()
    cfg = LazyConfig.load(str(repository / "configs/common/data/lvis.py"))
    cfg.dataloader.train.dataset.names = NAME
    cfg.dataloader.train.total_batch_size = 2
    cfg.dataloader.train.num_workers = 0
    cfg.dataloader.train.repeat_threshold = 1.0
    classes: Counter[int] = Counter()
    images: Counter[int] = Counter()
    for batch in islice(instantiate(cfg.dataloader.train).start(seed=0), 250):
        for item in batch:
            images[item["image_id"]] += 1
            classes.update(item["instances"].gt_classes.tolist())
            assert len(item["instances"].gt_masks) == len(item["instances"])
    assert set(classes) == {RARE - 1, COMMON - 1, FREQUENT - 1}
    # two images hold a class that is in a third of the images, one only what is in all
    assert images[1] / images[3] == pytest.approx(math.sqrt(3), rel=0.2)
    assert images[2] / images[3] == pytest.approx(math.sqrt(3), rel=0.2)


@needs_lvis
@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.5, math.nan])
def test_a_bad_threshold(repository, lvis, threshold) -> None:
    lvis()
    cfg = LazyConfig.load(str(repository / "configs/common/data/lvis.py"))
    cfg.dataloader.train.dataset.names = NAME
    cfg.dataloader.train.repeat_threshold = threshold
    with pytest.raises(ValueError, match="repeat_threshold"):
        instantiate(cfg.dataloader.train)
