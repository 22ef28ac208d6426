"""Checks of the annotations of a COCO json: references, boxes, segmentations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .accepted import Accepted
from .entries import is_integer
from .errors import Defects
from .mask_rules import MaskRule
from .segmentations import box_of

__all__ = ["check_annotations"]


def check_annotations(
    annotations: list[dict],
    images: list[dict],
    defects: Defects,
    *,
    image_ids: set[int],
    category_ids: set[int],
    tolerance: float,
    degenerate: str,
    maskless: str,
    evaluation: bool,
) -> Accepted:
    """Notes annotations that cannot be used, and finds those that are used in part.

    Args:
        annotations: entries with the required keys.
        images: entries of sound images; boxes and masks are checked on these.
        defects: where to note what is wrong.
        image_ids: the ids of all images of the json, broken ones too.
        category_ids: the ids of all categories of the json.
        tolerance: pixels that a box or a mask may reach beyond the image.
        degenerate: "error", or "skip" to accept boxes of zero (not negative) width or height.
        maskless: "keep" where no masks are wanted, "error", or "skip" to accept objects without.
        evaluation: also note what only COCOeval stumbles over.
    """
    by_id = {entry["id"]: entry for entry in images}
    split = "test" if evaluation else "train"
    masks = MaskRule(maskless, evaluation, tolerance, f"dataloader.{split}.dataset.maskless")
    placed: list[dict] = []
    for entry in annotations:
        what, mend = _reference_fault(entry, image_ids, category_ids)
        if not what and evaluation:
            what, mend = _evaluation_fault(entry)
        if not what:
            what, mend = masks.fault(entry, by_id)
        if what:
            defects.add(_where(entry, by_id), what, mend)
        elif entry["image_id"] in by_id:
            placed.append(entry)
    lacking: list[dict] = []
    apart: list[int] = []
    for entry in placed:
        if masks.lacks(entry):
            lacking.append(entry)
        elif masks.is_apart(entry):
            apart.append(entry["id"])
    if maskless == "error" and lacking:
        for index, what, mend in masks.missing(annotations, lacking):
            where = "annotations" if index is None else _where(lacking[index], by_id)
            defects.add(where, what, mend)
    key = f"dataloader.{split}.dataset.degenerate=skip"
    flat = _check_boxes(placed, by_id, defects, tolerance, "" if degenerate == "skip" else key)
    boxless = [entry["id"] for entry in placed if "bbox" not in entry]
    return Accepted(
        degenerate=tuple(flat),
        without_mask=tuple(entry["id"] for entry in lacking),
        in_part=tuple(entry["id"] for entry in placed if masks.is_cut(entry)),
        boxless=tuple(boxless),
        apart=tuple(apart),
    )


def _reference_fault(entry: dict, image_ids: set[int], category_ids: set[int]) -> tuple[str, str]:
    """(what, mend) of an annotation whose ids, box or flags cannot be read; what is "" if fine."""
    if not is_integer(entry["image_id"]) or entry["image_id"] not in image_ids:
        return (
            f"image_id {entry['image_id']!r} is not in the list of images",
            "correct the id, add the image, or drop the annotation",
        )
    if not is_integer(entry["category_id"]) or entry["category_id"] not in category_ids:
        known = ", ".join(str(number) for number in sorted(category_ids)[:20])
        return (
            f"category_id {entry['category_id']!r} is not in the list of categories",
            f"use one of {known}, or add the category",
        )
    if "bbox" in entry and not _is_box(entry["bbox"]):
        return (
            f"bbox is {entry['bbox']!r}, not four numbers",
            "write [x, y, width, height] in pixels",
        )
    if entry.get("iscrowd", 0) not in (0, 1):
        return f"iscrowd is {entry['iscrowd']!r}", "write 0 or 1"
    if entry.get("ignore", 0) != 0:
        return (
            f'"ignore" is {entry["ignore"]!r}, which detectron2 does not support',
            "remove the key, or mark the region as iscrowd",
        )
    return "", ""


def _evaluation_fault(entry: dict) -> tuple[str, str]:
    """(what, mend) of an annotation that only COCOeval stumbles over."""
    if entry["id"] == 0:
        return (
            "the id 0 counts as no match in COCOeval, so a hit would be a false alarm",
            "number annotations from 1",
        )
    if not _is_area(entry["area"]):
        return (
            f"area is {entry['area']!r}, not a finite number of at least 0",
            "write the area of the object in square pixels",
        )
    return "", ""


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
    given = [entry.get("bbox") or box_of(entry["segmentation"]) for entry in annotations]
    boxes = np.array(given, dtype=np.float64)
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
        defects.add(_where(entry, by_id), f"{_box_name(entry, given[index])} {what}", mend)
    return [annotations[index]["id"] for index in np.flatnonzero(zero & ~refused)]


def _where(entry: dict, by_id: dict[int, dict]) -> str:
    image = by_id.get(entry["image_id"]) if is_integer(entry["image_id"]) else None
    name = f", {image['file_name']}" if image else ""
    return f"annotation {entry['id']} (image {entry['image_id']}{name})"


def _box_name(entry: dict, box: list) -> str:
    return f"bbox {box}" if "bbox" in entry else f"the box of the mask {box}"


def _is_box(value: Any) -> bool:
    if not isinstance(value, list) or len(value) != 4:
        return False
    return all(_is_number(number) for number in value)


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or (is_integer(value) and abs(value) < 2**53)


def _is_area(value: Any) -> bool:
    return _is_number(value) and math.isfinite(value) and value >= 0
