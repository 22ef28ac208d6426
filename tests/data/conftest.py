"""A small sound data set that tests break, and clean detectron2 catalogs."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from ms_detr.data import DatasetError, check_coco_json

CONTENT = {
    "info": {},
    "images": [
        {"id": 10, "file_name": "a.jpg", "width": 60, "height": 40},
        {"id": 11, "file_name": "b.png", "width": 32, "height": 32},
        {"id": 12, "file_name": "empty.jpg", "width": 20, "height": 30},
    ],
    "annotations": [
        {
            "id": 1,
            "image_id": 10,
            "category_id": 3,
            "bbox": [5.0, 5.0, 20.0, 10.0],
            "area": 200.0,
            "iscrowd": 0,
            "segmentation": [[5.0, 5.0, 25.0, 5.0, 25.0, 15.0, 5.0, 15.0]],
        },
        {
            "id": 2,
            "image_id": 10,
            "category_id": 8,
            "bbox": [30, 10, 30, 30],
            "area": 900,
            "iscrowd": 1,
            "segmentation": {"counts": [0, 2400], "size": [40, 60]},
        },
        {
            "id": 3,
            "image_id": 11,
            "category_id": 8,
            "bbox": [0.0, 0.0, 32.0, 32.0],
            "area": 1024.0,
            "iscrowd": 0,
            "segmentation": [],
        },
    ],
    "categories": [{"id": 8, "name": "dog"}, {"id": 3, "name": "cat"}],
}


@dataclass
class SmallSet:
    """A json and its images in a folder of one test; `content` may be changed and saved."""

    root: Path
    content: dict

    @property
    def json_file(self) -> Path:
        return self.root / "instances.json"

    def save(self) -> Path:
        self.json_file.write_text(json.dumps(self.content))
        return self.json_file

    def refusal(self, **options: Any) -> str:
        """Saves, and returns the message with which `check_coco_json` refuses the json."""
        self.save()
        with pytest.raises(DatasetError) as caught:
            check_coco_json(self.json_file, self.root, **options)
        return str(caught.value)


@pytest.fixture
def small(tmp_path: Path) -> SmallSet:
    """Three images, one of them without objects, three annotations, one of them a crowd."""
    made = SmallSet(tmp_path, copy.deepcopy(CONTENT))
    rng = np.random.default_rng(0)
    for image in made.content["images"]:
        pixels = rng.integers(0, 256, (image["height"], image["width"], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / image["file_name"])
    made.save()
    return made


@pytest.fixture
def catalog() -> Iterator[None]:
    """Forgets, after the test, every data set that the test registered."""
    before = set(DatasetCatalog.list())
    yield
    for name in set(DatasetCatalog.list()) - before:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
