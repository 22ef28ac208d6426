"""Overlap of boxes on broadcastable shapes, without device synchronisation.

The functions of torchvision either compare all boxes with all boxes or select entries with a mask,
for which a GPU must report back to the host.  Here boxes are *planes*: one tensor (4, ...), its
first dimension x0, y0, x1, y1, so that whole rows of coordinates are worked on.
"""

from __future__ import annotations

import torch
from torch import Tensor


def planes_of(boxes: Tensor) -> Tensor:
    """Boxes (..., 4) as planes (4, ...), contiguous and at least in float32; same coordinates."""
    boxes = boxes if boxes.dtype.itemsize > 2 else boxes.float()
    return boxes.movedim(-1, 0).contiguous()


def corners_of(boxes: Tensor) -> Tensor:
    """Planes x0, y0, x1, y1 of boxes (..., 4) given as (cx, cy, w, h)."""
    center, size = planes_of(boxes).chunk(2)
    return torch.cat([center.sub(size, alpha=0.5), center.add(size, alpha=0.5)])


def generalized_iou(first: Tensor, second: Tensor) -> Tensor:
    """Generalised IoU, in [-1, 1], of boxes given as planes.

    NaN if both boxes have no area.  Differentiable; boxes that only touch get their gradient from
    the hull, as those that are apart do.
    """
    size_a, size_b, overlap = _sides(first, second)
    shared = _product(overlap.relu())
    union = _product(size_a) + _product(size_b) - shared
    hull = _product(size_a + size_b - overlap)
    return shared / union - (hull - union) / hull


def intersection_over_union(first: Tensor, second: Tensor) -> Tensor:
    """IoU, in [0, 1], of boxes given as planes; NaN if both boxes have no area."""
    size_a, size_b, overlap = _sides(first, second)
    shared = _product(overlap.relu())
    return shared / (_product(size_a) + _product(size_b) - shared)


def _sides(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sides (2, ...) of the boxes, and of what they share, negative where they are apart."""
    (low_a, high_a), (low_b, high_b) = first.chunk(2), second.chunk(2)
    overlap = torch.minimum(high_a, high_b) - torch.maximum(low_a, low_b)
    return high_a - low_a, high_b - low_b, overlap


def _product(sides: Tensor) -> Tensor:
    """Width times height."""
    width, height = sides.unbind()
    return width * height
