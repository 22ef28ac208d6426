"""Numbers of a data set: how many, how large, how often."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from .segmentations import box_of, has_mask, segmentation_fault

__all__ = ["ClassCount", "Numbers", "count_all"]

_SMALL, _MEDIUM = 32.0**2, 96.0**2  # areas in square pixels at which COCO parts sizes


@dataclass(frozen=True)
class ClassCount:
    """How often a class occurs: its objects (no crowds), and the images that hold any."""

    category_id: int
    name: str
    objects: int
    images: int


@dataclass(frozen=True)
class Numbers:
    """What is counted of the sound entries of a json.

    Attributes:
        images: images whose entry is sound.
        images_without_objects: those without any object.
        annotations: all annotations with the keys they need.
        crowd: those that are crowds.
        objects: those with a sound box, no crowds; all that follows is about them.
        objects_per_image: least, median and most, of all images.
        box_sizes: how many are small (below 32^2 square pixels), medium, large (from 96^2 on).
        short_sides: least, median and most of the images' short sides, in pixels.
        long_sides: the same of their long sides.
        image_sizes: how many different sizes there are.
        tenth_box: the side, in pixels, of a square as large as the box that a tenth are below.
        flat_boxes: boxes of zero width or height; they are no objects.
        with_mask: objects with a mask.
        classes: in the order of the class indices.
    """

    images: int
    images_without_objects: int
    annotations: int
    crowd: int
    objects: int
    objects_per_image: tuple[int, float, int]
    box_sizes: dict[str, int]
    short_sides: tuple[int, float, int]
    long_sides: tuple[int, float, int]
    image_sizes: int
    tenth_box: float
    flat_boxes: int
    with_mask: int
    classes: tuple[ClassCount, ...]


def count_all(lists: dict[str, list[dict]]) -> Numbers:
    """Counts the entries of a json.

    Args:
        lists: "images", "annotations" and "categories" with the keys they need; what else is wrong
            with an annotation leaves it out of the count of objects.
    """
    images = {entry["id"]: entry for entry in lists["images"]}
    known = {entry["id"] for entry in lists["categories"]}
    crowd = sum(entry.get("iscrowd", 0) == 1 for entry in lists["annotations"])
    boxes, holders, flat, masks = [], [], 0, 0
    for entry in lists["annotations"]:
        if entry.get("iscrowd", 0) == 1 or not _refers(entry, images, known):
            continue
        box = _box(entry)
        if box is None:
            continue
        if box[2] == 0 or box[3] == 0:
            flat += 1
            continue
        boxes.append(box)
        holders.append((entry["image_id"], entry["category_id"]))
        masks += _has_mask(entry)
    areas = np.array([width * height for _, _, width, height in boxes], dtype=np.float64)
    per_image = Counter(image for image, _ in holders)
    sides = np.array([sorted((e["width"], e["height"])) for e in images.values()]).reshape(-1, 2)
    return Numbers(
        images=len(images),
        images_without_objects=len(images) - len(per_image),
        annotations=len(lists["annotations"]),
        crowd=crowd,
        objects=len(boxes),
        objects_per_image=_spread(np.array([per_image[number] for number in images])),
        box_sizes={
            "small": int((areas < _SMALL).sum()),
            "medium": int(((areas >= _SMALL) & (areas < _MEDIUM)).sum()),
            "large": int((areas >= _MEDIUM).sum()),
        },
        short_sides=_spread(sides[:, 0]),
        long_sides=_spread(sides[:, 1]),
        image_sizes=len({(e["width"], e["height"]) for e in images.values()}),
        tenth_box=float(np.sqrt(np.quantile(areas, 0.1))) if len(areas) else 0.0,
        flat_boxes=flat,
        with_mask=masks,
        classes=_classes(lists["categories"], holders),
    )


def _classes(categories: list[dict], holders: list[tuple[int, int]]) -> tuple[ClassCount, ...]:
    objects = Counter(category for _, category in holders)
    images = Counter(category for _, category in set(holders))
    return tuple(
        ClassCount(entry["id"], str(entry["name"]), objects[entry["id"]], images[entry["id"]])
        for entry in sorted(categories, key=lambda entry: entry["id"])
    )


def _spread(values: np.ndarray) -> tuple[int, float, int]:
    """Least, median, most; zeros of nothing."""
    if not len(values):
        return 0, 0.0, 0
    return int(values.min()), float(np.median(values)), int(values.max())


def _refers(entry: dict, images: dict[int, Any], categories: set[int]) -> bool:
    ids = entry["image_id"], entry["category_id"]
    return all(isinstance(i, int) for i in ids) and ids[0] in images and ids[1] in categories


def _box(entry: dict) -> list[float] | None:
    """The box of an annotation, of its mask where it has none; None if it is not sound."""
    if "bbox" not in entry:
        return box_of(entry["segmentation"]) if _has_mask(entry) else None
    box = entry["bbox"]
    if not isinstance(box, list) or len(box) != 4:
        return None
    if not all(type(v) in (int, float) and abs(v) < 2**53 and math.isfinite(v) for v in box):
        return None
    return box if box[2] >= 0 and box[3] >= 0 else None


def _has_mask(entry: dict) -> bool:
    segmentation = entry.get("segmentation")
    return not segmentation_fault(segmentation, None)[0] and has_mask(segmentation)
