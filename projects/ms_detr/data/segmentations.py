"""Segmentations of annotations in COCO format: what is wrong with one, its box, its raster.

A segmentation is a list of polygons [x0, y0, x1, y1, ...] in pixels, the parts of one object, or a
run-length encoding (RLE) {"size": [height, width], "counts": ...} whose runs go down the columns;
"counts" is a list of numbers, or their compressed text. None, [] and "" mean that there is none.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pycocotools import mask as mask_util

__all__ = ["absence", "box_of", "has_mask", "rasterise", "segmentation_fault", "slivers"]

_LEAST = 6  # numbers of a polygon of three points
_FORM = "polygons as [[x0, y0, x1, y1, ...], ...]"
_ROUNDING = 1e-9  # share of the box that is no area, for every point
_CANVAS = 64  # pixels on which a polygon without a signed area is looked at


def has_mask(segmentation: Any) -> bool:
    """Whether a sound segmentation covers anything: a polygon with an area, or a run."""
    if not segmentation:
        return False
    if isinstance(segmentation, dict):
        return bool(mask_util.area(_compressed(segmentation)))
    return any(len(polygon) >= _LEAST and _covers(polygon) for polygon in segmentation)


def absence(segmentation: Any) -> str:
    """Says why a sound segmentation for which `has_mask` is false is no mask."""
    if not segmentation:
        return "segmentation is absent or empty"
    if isinstance(segmentation, dict):
        return "segmentation is an empty RLE: it has no pixel"
    return "segmentation has no area: the points of every polygon lie on lines"


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
) -> tuple[str, str]:
    """Says what is wrong with a segmentation, and the mend; "" twice if it is in order or absent.

    Args:
        segmentation: the value in the json.
        size: (height, width) of the image, None if it is not known.
        tolerance: pixels that a polygon may reach beyond the image; None does not ask.
    """
    if not segmentation:
        return "", ""
    if isinstance(segmentation, dict):
        what = _rle_fault(segmentation, size)
        return (what, "write an RLE of the image's size, polygons, or []") if what else ("", "")
    if not isinstance(segmentation, list):
        return f"segmentation is a {type(segmentation).__name__}", f"write {_FORM}, an RLE, or []"
    if all(map(_is_coordinate, segmentation)):
        count = _counted(len(segmentation), "number")
        return f"segmentation is a flat list of {count}", "wrap it in [ ], as in [[x0, y0, ...]]"
    for index, polygon in enumerate(segmentation, 1):
        what = _polygon_fault(polygon)
        if what:
            return f"segmentation: polygon {index} {what}", f"write {_FORM} in pixels"
    if slivers(segmentation) == len(segmentation):
        what = "segmentation has no polygon of 3 points, so detectron2 would drop the object"
        return what, "write polygons of at least 3 points, or []"
    if size is None or tolerance is None:
        return "", ""
    x, y, width, height = box_of(segmentation)
    excess = max(-x, -y, x + width - size[1], y + height - size[0])
    if excess > tolerance:
        return (
            f"segmentation has a polygon that reaches {excess:.4g} pixels beyond the image of "
            f"{size[1]} x {size[0]} (allowed: {tolerance:g})"
        ), "clip it to the image, or check that its points are x, y in pixels"
    return "", ""


def _polygon_fault(polygon: Any) -> str:
    if not isinstance(polygon, list):
        return f"is {_short(polygon)}, not a list of x, y pairs"
    for value in polygon:
        if not _is_coordinate(value):
            kind = "finite number" if isinstance(value, float) else "number"
            return f"holds {_short(value)}, not a {kind} of pixels"
    if len(polygon) % 2:
        return f"has {_counted(len(polygon), 'number')}, which are not x, y pairs"
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


def _covers(polygon: Any) -> bool:
    """Whether a polygon of three points or more has an inside.

    The signed area says so at once, but for polygons that cross themselves, such as a bow tie:
    what these enclose may cancel. They are drawn, stretched to a canvas of their own.
    """
    points = np.array(polygon, dtype=np.float64).reshape(-1, 2)
    points -= points[0]
    extent = points.max(0) - points.min(0)
    if not extent.all():
        return False
    x, y = points.T
    # from the first point, which is 0, so that the side that closes the polygon adds nothing
    area = abs(x[:-1] @ y[1:] - y[:-1] @ x[1:])
    if area > _ROUNDING * len(points) * extent[0] * extent[1]:
        return True
    stretched = ((points - points.min(0)) / extent * _CANVAS).ravel().tolist()
    return bool(mask_util.area(mask_util.frPyObjects([stretched], _CANVAS, _CANVAS)).any())


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_coordinate(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 2**53  # false for NaN


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _short(value: Any) -> str:
    text = repr(value) if not isinstance(value, int) or abs(value) < 2**53 else "a huge integer"
    return text if len(text) <= 40 else f"{text[:37]}..."


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
