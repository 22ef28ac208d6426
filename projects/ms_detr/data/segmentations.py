"""Segmentations of annotations in COCO format: what is wrong with one, its box, its raster.

A segmentation is a list of polygons [x0, y0, x1, y1, ...] in pixels, the parts of one object, or a
run-length encoding (RLE) {"size": [height, width], "counts": ...} whose runs go down the columns;
"counts" is a list of numbers, or their compressed text. None, [] and "" mean that there is none.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pycocotools import mask as mask_util

__all__ = ["box_of", "has_mask", "rasterise", "segmentation_fault", "slivers"]

_LEAST = 6  # numbers of a polygon of three points


def has_mask(segmentation: Any) -> bool:
    """Whether a sound segmentation covers anything: a polygon of three points, or a run."""
    if not segmentation:
        return False
    if isinstance(segmentation, dict):
        return bool(mask_util.area(_compressed(segmentation)))
    return any(len(polygon) >= _LEAST for polygon in segmentation)


def slivers(segmentation: Any) -> int:
    """Number of polygons of fewer than three points, which detectron2 leaves out."""
    if not isinstance(segmentation, list):
        return 0
    return sum(len(polygon) < _LEAST for polygon in segmentation)


def box_of(segmentation: Any) -> list[float]:
    """The tight box [x, y, width, height] of a segmentation for which `has_mask` is true.

    As in COCO, the box of polygons goes through their outermost corners.
    """
    if isinstance(segmentation, dict):
        return [float(value) for value in mask_util.toBbox(_compressed(segmentation))]
    points = np.concatenate(
        [np.reshape(polygon, (-1, 2)) for polygon in segmentation if len(polygon) >= _LEAST]
    )
    low, high = points.min(0), points.max(0)
    return [float(value) for value in (*low, *(high - low))]


def rasterise(segmentation: Any, height: int, width: int) -> np.ndarray:
    """The mask (height, width), bool, of a sound segmentation; parts beyond the image are cut.

    Args:
        segmentation: polygons (lists or arrays), or an RLE of this size; without a mask the
            result is empty.
        height, width: of the image, in pixels.
    """
    if not has_mask(segmentation):
        return np.zeros((height, width), dtype=bool)
    if isinstance(segmentation, dict):
        return mask_util.decode(_compressed(segmentation)).astype(bool)
    polygons = [np.asarray(p).tolist() for p in segmentation if len(p) >= _LEAST]
    parts = mask_util.frPyObjects(polygons, height, width)
    return mask_util.decode(mask_util.merge(parts)).astype(bool)


def segmentation_fault(
    segmentation: Any, size: tuple[int, int] | None, tolerance: float | None = None
) -> str:
    """Says what is wrong with a segmentation; "" if it is in order or absent.

    Args:
        segmentation: the value in the json.
        size: (height, width) of the image, None if it is not known.
        tolerance: pixels that a polygon may reach beyond the image; None does not ask.
    """
    if not segmentation:
        return ""
    if isinstance(segmentation, dict):
        return _rle_fault(segmentation, size)
    if not isinstance(segmentation, list):
        return f"segmentation is a {type(segmentation).__name__}"
    for polygon in segmentation:
        if not isinstance(polygon, list) or len(polygon) % 2:
            return "segmentation has a polygon that is not a list of x, y pairs"
        points = np.asarray(polygon)
        if polygon and points.dtype.kind not in "fiu":
            return "segmentation has a polygon that holds something other than numbers"
        if not np.isfinite(points).all():
            return "segmentation has a polygon with a value that is not finite"
    if not has_mask(segmentation):
        return "segmentation has no polygon of 3 points, so detectron2 would drop the object"
    if size is None or tolerance is None:
        return ""
    x, y, width, height = box_of(segmentation)
    excess = max(-x, -y, x + width - size[1], y + height - size[0])
    if excess > tolerance:
        return (
            f"segmentation has a polygon that reaches {excess:.4g} pixels beyond the image of "
            f"{size[1]} x {size[0]} (allowed: {tolerance:g})"
        )
    return ""


def _rle_fault(rle: dict, size: tuple[int, int] | None) -> str:
    if not {"counts", "size"} <= rle.keys():
        return 'segmentation is an RLE object without "counts" or "size"'
    stated, counts = rle["size"], rle["counts"]
    if not isinstance(stated, list) or len(stated) != 2 or not all(map(_is_count, stated)):
        return f"segmentation is an RLE with the size {stated!r}, not [height, width]"
    if size is not None and tuple(stated) != size:
        return f"segmentation is an RLE of [height, width] {stated}, but the image is {list(size)}"
    if isinstance(counts, str):
        counts = _decompress(counts)
        if counts is None:
            return "segmentation is an RLE whose text is not compressed counts"
    if not isinstance(counts, list) or not all(map(_is_count, counts)):
        return "segmentation is an RLE whose counts are not whole numbers of at least 0"
    if sum(counts) != stated[0] * stated[1]:
        return (
            f"segmentation is an RLE whose counts sum to {sum(counts)}, but {stated[0]} x "
            f"{stated[1]} pixels are {stated[0] * stated[1]}"
        )
    return ""


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _decompress(text: str) -> list[int] | None:
    """Runs of a compressed RLE; None if a character does not belong into one, or the end is cut.

    A character holds five bits, lowest first, above 48; the sixth bit says that more follow. From
    the fourth run on, the number is the difference to the run before the last one.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:  # the highest bit is the sign
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    return None if shift else counts


def _compressed(rle: dict[str, Any]) -> dict[str, Any]:
    """An RLE as the functions of pycocotools want it."""
    if isinstance(rle["counts"], list):
        return mask_util.frPyObjects(rle, *rle["size"])
    return rle
