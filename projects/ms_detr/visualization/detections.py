"""Boxes and masks with class names and scores drawn on an image.

Drawn with Pillow rather than with detectron2's Visualizer: tags stay inside the image, avoid each
other, have the colour of their class, and small images are enlarged before anything is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from detectron2.structures import BoxMode, Instances
from PIL import Image, ImageDraw

from .masks import draw_masks, masks_of_annotations, masks_of_instances
from .style import class_colour, font, ink_on

__all__ = ["Marks", "draw_detections"]

_READABLE_SIDE = 384
_SMALLER, _LARGER = Image.Resampling.LANCZOS, Image.Resampling.BICUBIC
_Rectangle = tuple[float, float, float, float]


@dataclass(frozen=True)
class Marks:
    """What to draw on one image.

    Attributes:
        boxes: (N, 4) corners x0, y0, x1, y1 in pixels of the image.
        classes: (N,) class indices.
        scores: (N,) in [0, 1], or None for ground truth.
        crowd: (N,) bool, regions annotated as a crowd.
        masks: (N, H, W) bool in the size of the image, or None where there are none at all.
    """

    boxes: np.ndarray
    classes: np.ndarray
    scores: np.ndarray | None
    crowd: np.ndarray
    masks: np.ndarray | None = None

    @classmethod
    def of(cls, source: Instances | Sequence[dict[str, Any]], size: tuple[int, int]) -> Marks:
        """Reads detectron2's `Instances` (predicted or ground truth) or its annotation dicts.

        Args:
            source: what to draw.
            size: (height, width) of the image.

        Raises:
            ValueError: The instances have neither `pred_boxes` nor `gt_boxes`.
        """
        if not isinstance(source, Instances):
            return cls._of_annotations(source, size)
        kind = "pred" if source.has("pred_boxes") else "gt"
        if not source.has(f"{kind}_boxes"):
            raise ValueError(
                f"instances have the fields {sorted(source.get_fields())}; mend: give instances "
                "with pred_boxes, scores and pred_classes, or with gt_boxes and gt_classes"
            )
        source = source.to("cpu")
        scores = source.scores.detach().float().numpy() if source.has("scores") else None
        return cls(
            source.get(f"{kind}_boxes").tensor.detach().numpy(),
            source.get(f"{kind}_classes").numpy(),
            scores,
            np.zeros(len(source), dtype=bool),
            masks_of_instances(source, kind),
        )

    @classmethod
    def _of_annotations(cls, annotations: Sequence[dict[str, Any]], size: tuple[int, int]) -> Marks:
        corners = [
            BoxMode.convert(list(entry["bbox"]), entry["bbox_mode"], BoxMode.XYXY_ABS)
            for entry in annotations
        ]
        return cls(
            np.array(corners, dtype=np.float64).reshape(-1, 4),
            np.array([entry["category_id"] for entry in annotations], dtype=np.int64),
            None,
            np.array([bool(entry.get("iscrowd", 0)) for entry in annotations], dtype=bool),
            masks_of_annotations(annotations, size),
        )

    def above(self, threshold: float) -> Marks:
        """Those of at least the given score; all of them if they have no scores."""
        if self.scores is None:
            return self
        keep = self.scores >= threshold
        masks = None if self.masks is None else self.masks[keep]
        return Marks(
            self.boxes[keep], self.classes[keep], self.scores[keep], self.crowd[keep], masks
        )

    def __len__(self) -> int:
        return len(self.boxes)


def draw_detections(
    image: np.ndarray,
    detections: Instances | Sequence[dict[str, Any]],
    class_names: Sequence[str],
    *,
    score_threshold: float = 0.5,
    longer_side: int | None = None,
) -> np.ndarray:
    """Draws masks, boxes, class names and scores (in percent) on an image.

    Args:
        image: (H, W, 3) uint8 RGB.
        detections: detectron2 `Instances` with predictions or ground truth, or annotation dicts
            with "bbox", "bbox_mode", "category_id"; boxes in pixels of `image`. Masks are drawn
            where there are any: `pred_masks`, `gt_masks`, "segmentation".
        class_names: names by class index.
        score_threshold: predictions with a lower score are not drawn.
        longer_side: length in pixels that the longer side of the picture shall have; None keeps
            the size, but enlarges an image below 384 pixels so that tags can be read.

    Returns:
        (H', W', 3) uint8 RGB, a new array.

    Raises:
        ValueError: The image is not (H, W, 3) uint8, instances belong to another image size, or a
            class index has no name.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(
            f"image has shape {image.shape} and type {image.dtype}; mend: give (H, W, 3) uint8"
        )
    if isinstance(detections, Instances) and detections.image_size != image.shape[:2]:
        raise ValueError(
            f"detections belong to an image of (height, width) {detections.image_size}, but the "
            f"image has {image.shape[:2]}; mend: draw on the image of that size"
        )
    marks = Marks.of(detections, image.shape[:2]).above(score_threshold)
    if len(marks) and not 0 <= marks.classes.min() <= marks.classes.max() < len(class_names):
        raise ValueError(
            f"class indices {marks.classes.min()} to {marks.classes.max()} for "
            f"{len(class_names)} class names; mend: give the names of the data set in use"
        )
    longest = max(image.shape[:2])
    scale = (longer_side or max(longest, _READABLE_SIDE)) / longest
    size = tuple(max(1, round(side * scale)) for side in image.shape[1::-1])
    picture = Image.fromarray(image).resize(size, _SMALLER if scale < 1 else _LARGER)
    order = np.arange(len(marks)) if marks.scores is None else np.argsort(marks.scores)
    if marks.masks is not None:
        picture = draw_masks(picture, marks.masks[order], marks.classes[order])
    _draw(picture, marks, order, scale, class_names)
    return np.array(picture)


def _draw(
    picture: Image.Image,
    marks: Marks,
    order: np.ndarray,
    scale: float,
    class_names: Sequence[str],
) -> None:
    """Draws boxes and tags, those first in `order` below the others."""
    pen = ImageDraw.Draw(picture)
    longer = max(picture.size)
    line = max(2, round(longer / 190))
    letters = font(max(11, round(longer / 32)))
    corners = marks.boxes * scale
    for index in order:
        x0, y0, x1, y1 = _clip(corners[index], picture.size)
        pen.rectangle((x0 - 1, y0 - 1, x1 + 1, y1 + 1), outline=(15, 15, 15), width=line + 2)
        pen.rectangle((x0, y0, x1, y1), outline=class_colour(marks.classes[index]), width=line)
    taken: list[_Rectangle] = []
    for index in order[::-1]:  # the best scores choose the place of their tag first
        text = class_names[marks.classes[index]]
        if marks.crowd[index]:
            text += " (crowd)"
        if marks.scores is not None:
            text += f" {100 * marks.scores[index]:.0f}"
        colour = class_colour(marks.classes[index])
        width = pen.textlength(text, font=letters) + 6
        height = sum(letters.getmetrics()) + 2
        place = _place(_clip(corners[index], picture.size), width, height, picture.size, taken)
        taken.append(place)
        pen.rectangle(place, fill=colour, outline=(15, 15, 15))
        pen.text((place[0] + 3, place[1] + 1), text, font=letters, fill=ink_on(colour))


def _clip(box: np.ndarray, size: tuple[int, int]) -> _Rectangle:
    """Cuts corners to the image and keeps them in order, for Pillow."""
    x0, x1 = np.clip(np.sort(box[[0, 2]]), 0, size[0] - 1)
    y0, y1 = np.clip(np.sort(box[[1, 3]]), 0, size[1] - 1)
    return float(x0), float(y0), float(x1), float(y1)


def _place(
    box: _Rectangle, width: float, height: float, size: tuple[int, int], taken: list[_Rectangle]
) -> _Rectangle:
    """Finds the place of a tag at its box: the first that covers no other tag, or the least."""
    best, least = (0.0, 0.0, width, height), float("inf")
    for y in (box[1] - height, box[3], box[1], box[3] - height):
        for x in (box[0], box[2] - width):
            left = min(max(x, 0.0), max(size[0] - 1 - width, 0.0))
            top = min(max(y, 0.0), max(size[1] - 1 - height, 0.0))
            place = (left, top, left + width, top + height)
            covered = sum(_common(place, other) for other in taken)
            if covered < least:
                best, least = place, covered
    return best


def _common(one: _Rectangle, other: _Rectangle) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0.0) * max(height, 0.0)
