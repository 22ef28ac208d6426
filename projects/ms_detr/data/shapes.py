"""The embedded data set: textured scenes of five classes of shapes, written as COCO json.

Boxes, masks and areas describe the *visible* part of an object, as in COCO: what lies behind
another object or beyond the border is not there. Boxes and areas are finer than pixels. Masks are
compressed RLE, which can express holes; a pixel belongs to the object that covers at least half.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as mask_util

from .errors import DatasetError
from .scenes import SHAPE_NAMES, SUPERSAMPLING, Scene, draw_scene

__all__ = ["SHAPE_CATEGORY_IDS", "ShapesDataset", "generate_shapes", "mask_of"]

logger = logging.getLogger(__name__)

SHAPE_CATEGORY_IDS = (1, 2, 3, 5, 8)  # with gaps, so that the id map is exercised
_GENERATOR = "ms_detr.data.shapes 3"  # raise the number when scenes or labels change
_MIN_IMAGE_SIZE = 64


@dataclass(frozen=True)
class ShapesDataset:
    """Where the parts of a generated data set lie under `root`."""

    root: Path

    def json_file(self, split: str) -> Path:
        """The COCO json of a split, "train" or "val"."""
        return self.root / "annotations" / f"instances_{split}.json"

    def image_root(self, split: str) -> Path:
        """The image folder of a split, "train" or "val"."""
        return self.root / split


def generate_shapes(
    root: str | os.PathLike[str],
    *,
    num_train: int,
    num_val: int,
    image_size: int = 128,
    seed: int = 0,
) -> ShapesDataset:
    """Writes the data set of shapes under `root`; the same arguments give the same bytes.

    If `root` already holds a complete data set made with the same arguments, nothing is written.

    Args:
        root: folder for `annotations/instances_{train,val}.json`, `train/*.jpg`, `val/*.jpg`.
        num_train: number of training images, at least 1.
        num_val: number of validation images, at least 1.
        image_size: side of the square images in pixels, at least 64.
        seed: scene `i` of a split depends on `(seed, split, i)` only, so a longer data set begins
            with the shorter one.

    Raises:
        DatasetError: An argument is out of range, or `root` holds a json of another origin,
            which is never overwritten.
    """
    for name, value, least in (
        ("num_train", num_train, 1),
        ("num_val", num_val, 1),
        ("image_size", image_size, _MIN_IMAGE_SIZE),
        ("seed", seed, 0),
    ):
        if value < least:
            raise DatasetError(f"{name} is {value}, but must be at least {least}")
    dataset = ShapesDataset(Path(root))
    first_id = 1
    for index, (split, count) in enumerate((("train", num_train), ("val", num_val))):
        settings = {
            "description": "textured scenes of shapes",
            "generator": _GENERATOR,
            "split": split,
            "image_size": image_size,
            "seed": seed,
            "num_images": count,
            "first_image_id": first_id,
        }
        if _is_complete(dataset, split, settings):
            logger.info("%s is complete already", dataset.json_file(split))
        else:
            _write_split(dataset, split, index, settings)
        first_id += count
    return dataset


def _is_complete(dataset: ShapesDataset, split: str, settings: dict) -> bool:
    """Whether the split was made with these settings; the json is written last."""
    path = dataset.json_file(split)
    if not path.exists():
        return False
    try:
        content = json.loads(path.read_text())
        found = content["info"]
        made_here = str(found["generator"]).startswith(_GENERATOR.split()[0])
    except (ValueError, KeyError, TypeError):
        made_here = False
    if not made_here:
        raise DatasetError(
            f"{path} was not made by this generator and will not be overwritten; "
            "choose another root or move the file away"
        )
    folder = dataset.image_root(split)
    return found == settings and all(
        (folder / image["file_name"]).is_file() for image in content["images"]
    )


def _write_split(dataset: ShapesDataset, split: str, index: int, settings: dict) -> None:
    folder, path = dataset.image_root(split), dataset.json_file(split)
    folder.mkdir(parents=True, exist_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # from here on the split is incomplete until the json is back
    size = settings["image_size"]
    images: list[dict] = []
    annotations: list[dict] = []
    for number in range(settings["num_images"]):
        scene = draw_scene(np.random.default_rng([settings["seed"], index, number]), size)
        image_id = settings["first_image_id"] + number
        name = f"{image_id:06d}.jpg"
        Image.fromarray(scene.image).save(folder / name, quality=92, subsampling=0)
        images.append({"id": image_id, "file_name": name, "width": size, "height": size})
        annotations += _annotations(scene, image_id, first_id=len(annotations) + 1)
    content = {
        "info": settings,
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": [
            {"id": category, "name": name, "supercategory": "shape"}
            for category, name in zip(SHAPE_CATEGORY_IDS, SHAPE_NAMES)
        ],
    }
    unfinished = path.with_suffix(".part")
    unfinished.write_text(json.dumps(content))
    os.replace(unfinished, path)
    logger.info("wrote %d images with %d objects to %s", len(images), len(annotations), folder)


def _annotations(scene: Scene, image_id: int, *, first_id: int) -> list[dict]:
    """COCO entries of a scene, in pixels of the image."""
    entries = []
    for offset, item in enumerate(scene.objects):
        rows, columns = np.flatnonzero(item.visible.any(1)), np.flatnonzero(item.visible.any(0))
        left, top = columns[0] / SUPERSAMPLING, rows[0] / SUPERSAMPLING
        right, bottom = (columns[-1] + 1) / SUPERSAMPLING, (rows[-1] + 1) / SUPERSAMPLING
        entries.append(
            {
                "id": first_id + offset,
                "image_id": image_id,
                "category_id": SHAPE_CATEGORY_IDS[item.shape],
                "bbox": [float(v) for v in (left, top, right - left, bottom - top)],
                "area": float(np.count_nonzero(item.visible)) / SUPERSAMPLING**2,
                "iscrowd": 0,
                "segmentation": mask_of(item.visible),
            }
        )
    return entries


def mask_of(visible: np.ndarray) -> dict[str, Any]:
    """The compressed RLE, in pixels of the image, of a region on the finer raster of a scene.

    Args:
        visible: (S*H, S*W) bool, S = `SUPERSAMPLING`.
    """
    height, width = (side // SUPERSAMPLING for side in visible.shape)
    blocks = visible.reshape(height, SUPERSAMPLING, width, SUPERSAMPLING)
    mask = blocks.mean((1, 3)) >= 0.5
    counts = mask_util.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"]
    return {"size": [height, width], "counts": counts.decode("ascii")}
