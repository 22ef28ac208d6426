"""A small json in LVIS's format through a whole run: 1203 classes, boxes, masks, scores."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_lvis_instances
from detectron2.data.datasets.lvis import get_lvis_instances_meta
from lvis_json import content, write
from small_models import load, shrink

from ms_detr.engine import do_train

NAME = "trained_lvis_v1"


@pytest.mark.skipif(
    importlib.util.find_spec("lvis") is None,
    reason="the package lvis is not installed (pip install --no-deps lvis)",
)
def test_a_run_on_lvis(tmp_path: Path) -> None:
    path = write(tmp_path, content())
    register_lvis_instances(NAME, get_lvis_instances_meta("lvis_v1"), str(path), f"{tmp_path}/")
    try:
        cfg = load("lvis/ms_detr_mask_r50_24ep.py")
        assert cfg.model.heads.num_classes == 1203
        cfg.model = shrink(cfg.model)
        cfg.model.heads.num_classes = 1203
        for split in ("train", "test"):
            loader = cfg.dataloader[split]
            loader.dataset.names = NAME
            loader.mapper.augmentations = []
            loader.num_workers = 0
        cfg.dataloader.train.total_batch_size = 2
        cfg.train.update(
            max_iter=1, eval_period=0, init_checkpoint="", device="cpu", output_dir=str(tmp_path)
        )
        results = do_train(cfg)
    finally:
        DatasetCatalog.remove(NAME)
        MetadataCatalog.remove(NAME)
    for task in ("bbox", "segm"):
        assert {"AP", "APr", "APc", "APf"} <= set(results[task])
    found = json.loads((tmp_path / "results.json").read_text())["metrics"]
    assert set(found) == {"bbox", "segm"}
