"""Augmentations of the published recipes that detectron2 has in another form."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import detectron2.data.transforms as T
import numpy as np

__all__ = ["DetrResize", "detr_size"]


class DetrResize(T.ResizeShortestEdge):
    """Resizes an image to exactly the size that DETR and its descendants give it.

    It differs from detectron2's `ResizeShortestEdge` in the rounding only, mostly by one pixel of
    the long side (108 of 186 photos of COCO, at 800 pixels); the filter is Pillow's in both.

    Args:
        short_edge_length: length of the short side in pixels, or several to choose from at random.
        max_size: limit of the long side in pixels, which rounding may exceed, see `detr_size`; None
            means none.

    Source:
        Carion et al., "End-to-End Object Detection with Transformers", 2020.
    """

    def __init__(self, short_edge_length: int | Sequence[int], max_size: int | None = None) -> None:
        lengths = [short_edge_length] if isinstance(short_edge_length, int) else short_edge_length
        max_size = sys.maxsize if max_size is None else max_size
        if not lengths or min(lengths) < 1:
            raise ValueError(
                f"short_edge_length is {short_edge_length}; give one or more lengths of at least 1"
            )
        if max_size < 1:
            raise ValueError(f"max_size is {max_size}; give at least 1, or None for no limit")
        super().__init__(list(lengths), max_size, sample_style="choice")

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """The resizing of an (H, W, 3) or (H, W) image; draws the length of the short side."""
        height, width = image.shape[:2]
        short = int(np.random.choice(self.short_edge_length))
        size = detr_size(height, width, short, self.max_size)
        return T.ResizeTransform(height, width, *size, self.interp)


def detr_size(height: int, width: int, short: int, max_size: int) -> tuple[int, int]:
    """The (height, width) to which DETR resizes an image.

    The short side becomes ``short``, and the long one follows, rounded down. Where that is more
    than ``max_size``, the short side becomes what fits, rounded to the nearest (halves to the even
    number), and the long one follows as before: it ends above or below ``max_size``, by a pixel
    more than half the aspect ratio at most.

    Raises:
        ValueError: the image is so long and thin that nothing would be left of its short side.
    """
    short_now, long_now = sorted((height, width))
    if long_now * short > max_size * short_now:
        short = round(max_size * short_now / long_now)
    if short < 1:
        raise ValueError(
            f"an image of (height, width) {(height, width)} has no row or column left when its "
            f"long side is limited to {max_size} pixels; crop it, or take it out of the data set"
        )
    long = short * long_now // short_now
    return (short, long) if height < width else (long, short)
