"""Overlap of boxes pair by pair, on broadcastable shapes and without device synchronisation.

The functions of torchvision either compare all boxes with all boxes or select entries with a mask,
for which a GPU must report back to the host.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import box_convert


def area_of_corners(corners: tuple[Tensor, ...]) -> Tensor:
    """Area of boxes given as four tensors x0, y0, x1, y1."""
    x0, y0, x1, y1 = corners
    return (x1 - x0) * (y1 - y0)


def corners_of(boxes: Tensor) -> tuple[Tensor, ...]:
    """x0, y0, x1, y1 of boxes (..., 4) given as (cx, cy, w, h), one contiguous tensor (...)
    each."""
    return box_convert(boxes, "cxcywh", "xyxy").movedim(-1, 0).contiguous().unbind(0)


def generalized_iou(first: Tensor, second: Tensor) -> Tensor:
    """Generalised IoU, in [-1, 1], of boxes (..., 4) with boxes (..., 4), as (cx, cy, w, h).

    NaN if both boxes have no area.  Differentiable; boxes that only touch get their gradient from
    the hull, as those that are apart do.
    """
    a, b = corners_of(first), corners_of(second)
    width = torch.minimum(a[2], b[2]) - torch.maximum(a[0], b[0])
    height = torch.minimum(a[3], b[3]) - torch.maximum(a[1], b[1])
    shared = (width * height).masked_fill((width <= 0) | (height <= 0), 0.0)
    union = area_of_corners(a) + area_of_corners(b) - shared
    hull_width = torch.maximum(a[2], b[2]) - torch.minimum(a[0], b[0])
    hull_height = torch.maximum(a[3], b[3]) - torch.minimum(a[1], b[1])
    hull = hull_width * hull_height
    return shared / union - (hull - union) / hull
