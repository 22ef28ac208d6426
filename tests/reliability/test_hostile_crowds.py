"""More objects on one image than the model has queries: it trains and is evaluated."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image
from small_models import shrink

from ms_detr.config import load_config
from ms_detr.engine import do_train, prepare_dataset

OBJECTS = 2000


@pytest.fixture
def crowded(tmp_path: Path):
    """Two images, one with 2000 objects and one without any."""
    random = np.random.default_rng(0)
    images = [{"id": i, "file_name": f"{i}.png", "width": 96, "height": 96} for i in (1, 2)]
    for image in images:
        pixels = random.integers(0, 256, (96, 96, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / image["file_name"])
    corners = random.uniform(0, 80, (OBJECTS, 2)).round(1).tolist()
    annotations = [
        {"id": n, "image_id": 1, "category_id": 1 + n % 2, "bbox": [x, y, 9.5, 7], "area": 66.5,
         "iscrowd": 0}
        for n, (x, y) in enumerate(corners, 1)
    ]  # fmt: skip
    categories = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "crowded.json").write_text(json.dumps(content))
    yield tmp_path
    for name in {"custom_train", "custom_val"} & set(DatasetCatalog.list()):
        DatasetCatalog.pop(name)
        MetadataCatalog.pop(name)


def test_two_thousand_objects_and_twelve_queries(crowded: Path, repository: Path) -> None:
    data = [
        f"dataset.{split}_{key}={value}"
        for split in ("train", "val")
        for key, value in (("json", crowded / "crowded.json"), ("images", crowded))
    ]
    run = [f"train.output_dir={crowded / 'out'}", "train.device=cpu", "train.max_iter=2"]
    run += ["dataloader.train.num_workers=0", "dataloader.test.num_workers=0"]
    run += ["dataloader.train.total_batch_size=2", "train.log_period=1", "train.eval_period=0"]
    cfg = load_config(repository / "configs/custom/small.py", [*data, *run])
    cfg.model = shrink(cfg.model, num_classes=2)
    prepare_dataset(cfg)
    results = do_train(cfg)
    assert 0 <= results["bbox"]["AP"] <= 100
    lines = (crowded / "out" / "metrics.json").read_text().splitlines()
    losses = [json.loads(line)["total_loss"] for line in lines if "total_loss" in line]
    assert len(losses) == 2 and np.isfinite(losses).all() and min(losses) > 0
