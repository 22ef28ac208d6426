"""Checks of the entries of a COCO json: keys, ids, boxes, segmentations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .errors import DatasetError, Defects

__all__ = ["check_annotations", "check_categories", "check_images", "entries_of"]

_REQUIRED = {
    "categories": {"id", "name"},
    "images": {"id", "file_name", "width", "height"},
    "annotations": {"id", "image_id", "category_id", "bbox"},
}
_FOR_EVALUATION = {"area", "iscrowd"}  # COCOeval reads them and fails without


def entries_of(
    content: Any, key: str, defects: Defects, *, source: str, evaluation: bool = False
) -> list[dict]:
    """Returns the list `content[key]` after a check of the keys and ids of its entries.

    Raises:
        DatasetError: The list is absent or not a list.
    """
    if key not in content:
        raise DatasetError(
            f'{source}: the key "{key}" is missing; mend: a COCO json needs "images", '
            '"annotations" and "categories" (empty lists of annotations are allowed)'
        )
    entries = content[key]
    if not isinstance(entries, list):
        raise DatasetError(
            f'{source}: "{key}" is a {type(entries).__name__}, not a list; '
            "mend: write a list of objects"
        )
    required = _REQUIRED[key]
    if evaluation and key == "annotations":
        required = required | _FOR_EVALUATION
    noun = "category" if key == "categories" else key[:-1]
    sound, seen = [], set()
    for position, entry in enumerate(entries):
        if not isinstance(entry, dict):
            what = f"is a {type(entry).__name__}, not an object"
            defects.add(f"{key}[{position}]", what, "write an object")
        elif not required <= entry.keys():
            lacking = ", ".join(f'"{name}"' for name in sorted(required - entry.keys()))
            where = f"{noun} {entry['id']}" if "id" in entry else f"{key}[{position}]"
            defects.add(where, f"lacks {lacking}", f"add {lacking}")
        elif not _is_integer(entry["id"]):
            what = f"the id {entry['id']!r} is not an integer"
            defects.add(f"{key}[{position}]", what, "number the entries with integers")
        elif entry["id"] in seen:
            what = f"the id is used twice (again by {key}[{position}])"
            defects.add(f"{noun} {entry['id']}", what, "give every entry an id of its own")
        else:
            seen.add(entry["id"])
            sound.append(entry)
    return sound


def check_categories(categories: list[dict], defects: Defects) -> None:
    """Notes names that are not text, or that two categories share."""
    owner: dict[str, int] = {}
    for entry in categories:
        name = entry["name"]
        if not isinstance(name, str) or not name:
            what = f"the name {name!r} is not a text"
            defects.add(f"category {entry['id']}", what, "name the class")
        elif name in owner:
            what = f'the name "{name}" belongs to category {owner[name]} as well'
            defects.add(f"category {entry['id']}", what, "merge the two, or rename one")
        else:
            owner[name] = entry["id"]


def check_images(images: list[dict], defects: Defects) -> list[dict]:
    """Returns the images whose file name and size can be used; notes the others."""
    sound = []
    for entry in images:
        where = f"image {entry['id']}"
        size = (entry["width"], entry["height"])
        if not isinstance(entry["file_name"], str) or not entry["file_name"]:
            what = f"file_name is {entry['file_name']!r}, not a text"
            defects.add(where, what, "write the path of the file under the image folder")
        elif not all(_is_integer(side) and side > 0 for side in size):
            what = f"width and height are {size[0]!r} and {size[1]!r}, not positive integers"
            defects.add(f"{where} ({entry['file_name']})", what, "write the size in pixels")
        else:
            sound.append(entry)
    return sound


def check_annotations(
    annotations: list[dict],
    images: list[dict],
    defects: Defects,
    *,
    image_ids: set[int],
    category_ids: set[int],
    tolerance: float,
    degenerate: str,
    evaluation: bool,
) -> list[int]:
    """Notes annotations that cannot be used, and finds boxes of zero width or height.

    Args:
        annotations: entries with the required keys.
        images: entries of sound images; boxes are checked on these.
        defects: where to note what is wrong.
        image_ids: the ids of all images of the json, broken ones too.
        category_ids: the ids of all categories of the json.
        tolerance: pixels that a box may reach beyond the image.
        degenerate: "error", or "skip" to accept boxes of zero (not negative) width or height.
        evaluation: also note what only COCOeval stumbles over.

    Returns:
        Ids of the accepted annotations with a box of zero width or height.
    """
    by_id = {entry["id"]: entry for entry in images}
    placed = []
    for entry in annotations:
        what = mend = ""
        if not _is_integer(entry["image_id"]) or entry["image_id"] not in image_ids:
            what = f"image_id {entry['image_id']!r} is not in the list of images"
            mend = "correct the id, add the image, or drop the annotation"
        elif not _is_integer(entry["category_id"]) or entry["category_id"] not in category_ids:
            known = ", ".join(str(number) for number in sorted(category_ids)[:20])
            what = f"category_id {entry['category_id']!r} is not in the list of categories"
            mend = f"use one of {known}, or add the category"
        elif not _is_box(entry["bbox"]):
            what = f"bbox is {entry['bbox']!r}, not four numbers"
            mend = "write [x, y, width, height] in pixels"
        elif entry.get("iscrowd", 0) not in (0, 1):
            what, mend = f"iscrowd is {entry['iscrowd']!r}", "write 0 or 1"
        elif entry.get("ignore", 0) != 0:
            what = f'"ignore" is {entry["ignore"]!r}, which detectron2 does not support'
            mend = "remove the key, or mark the region as iscrowd"
        elif evaluation and entry["id"] == 0:
            what = "the id 0 counts as no match in COCOeval, so a hit would be a false alarm"
            mend = "number annotations from 1"
        elif evaluation and not _is_area(entry["area"]):
            what = f"area is {entry['area']!r}, not a finite number of at least 0"
            mend = "write the area of the object in square pixels"
        elif fault := _segmentation_fault(entry.get("segmentation")):
            what, mend = fault, "write polygons of at least 3 points, an RLE object, or []"
        if what:
            defects.add(_where(entry, by_id), what, mend)
        elif entry["image_id"] in by_id:
            placed.append(entry)
    key = f"dataloader.{'test' if evaluation else 'train'}.dataset.degenerate=skip"
    return _check_boxes(placed, by_id, defects, tolerance, "" if degenerate == "skip" else key)


def _check_boxes(
    annotations: list[dict],
    by_id: dict[int, dict],
    defects: Defects,
    tolerance: float,
    skip_key: str,
) -> list[int]:
    """Notes bad boxes; those of zero width or height too, with `skip_key` as mend, unless ""."""
    if not annotations:
        return []
    boxes = np.array([entry["bbox"] for entry in annotations], dtype=np.float64)
    pictures = [by_id[entry["image_id"]] for entry in annotations]
    sides = np.array([(entry["width"], entry["height"]) for entry in pictures], dtype=np.float64)
    excess = np.maximum(-boxes[:, :2], boxes[:, :2] + boxes[:, 2:] - sides).max(1)
    finite = np.logical_and.reduce(np.isfinite(boxes), axis=1)
    negative = np.logical_and(finite, (boxes[:, 2:] < 0).any(1))
    zero = finite & ~negative & (boxes[:, 2:] == 0).any(1)
    outside = np.logical_and(finite & ~negative, excess > tolerance)
    # within the tolerance, but nothing of it lies on the image: the mapper would drop it unseen
    nowhere = (boxes[:, :2] >= sides).any(1) | (boxes[:, :2] + boxes[:, 2:] <= 0).any(1)
    nowhere &= finite & ~negative & ~zero
    refused = np.asarray(~finite | negative | outside | nowhere)
    if skip_key:
        refused = refused | zero
    for index in np.flatnonzero(refused):
        entry, side = annotations[index], sides[index]
        if not finite[index]:
            what, mend = "has a value that is not finite", "write numbers, or drop the entry"
        elif negative[index]:
            what = "has a negative width or height"
            mend = "write [x, y, width, height], not two corners in the wrong order"
        elif outside[index]:
            what = (
                f"reaches {excess[index]:.4g} pixels beyond the image of "
                f"{side[0]:.0f} x {side[1]:.0f} (allowed: {tolerance:g})"
            )
            mend = "clip the box, or check that it is [x, y, width, height] in pixels"
        elif nowhere[index]:
            what = f"lies wholly outside the image of {side[0]:.0f} x {side[1]:.0f}"
            mend = "drop the entry, or check that the box is [x, y, width, height] from 0"
        else:
            what = "has zero width or height"
            mend = f"drop the entry, or leave such boxes out with {skip_key}"
        defects.add(_where(entry, by_id), f"bbox {entry['bbox']} {what}", mend)
    return [annotations[index]["id"] for index in np.flatnonzero(zero & ~refused)]


def _where(entry: dict, by_id: dict[int, dict]) -> str:
    image = by_id.get(entry["image_id"]) if _is_integer(entry["image_id"]) else None
    name = f", {image['file_name']}" if image else ""
    return f"annotation {entry['id']} (image {entry['image_id']}{name})"


def _segmentation_fault(segmentation: Any) -> str:
    """Says what is wrong with a segmentation; "" if it is in order or absent."""
    if not segmentation:
        return ""
    if isinstance(segmentation, dict):
        sound = {"counts", "size"} <= segmentation.keys()
        return "" if sound else 'segmentation is an RLE object without "counts" or "size"'
    if not isinstance(segmentation, list):
        return f"segmentation is a {type(segmentation).__name__}"
    for polygon in segmentation:
        if not isinstance(polygon, list) or len(polygon) % 2:
            return "segmentation has a polygon that is not a list of x, y pairs"
    if all(len(polygon) < 6 for polygon in segmentation):
        return "segmentation has no polygon of 3 points, so detectron2 would drop the object"
    return ""


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_box(value: Any) -> bool:
    if not isinstance(value, list) or len(value) != 4:
        return False
    return all(_is_number(number) for number in value)


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or (_is_integer(value) and abs(value) < 2**53)


def _is_area(value: Any) -> bool:
    return _is_number(value) and math.isfinite(value) and value >= 0
