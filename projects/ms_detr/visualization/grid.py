"""One picture with ground truth beside predictions for several images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.structures import Instances
from PIL import Image, ImageDraw

from .detections import Marks, draw_detections
from .style import class_colour, font

__all__ = ["Comparison", "save_comparison_grid"]

_PAPER = (250, 250, 250)
_INK = (30, 30, 30)
_GREY = (110, 110, 110)
_PANEL = 300  # side of the square that a panel must fit into, in pixels
_GAP = 6  # between the two panels of a pair
_MARGIN = 20  # between pairs, and around
_CAPTION = 24
_MAX_LEGEND = 20  # with more classes the tags alone must do


@dataclass(frozen=True)
class Comparison:
    """One image with what is true and what was predicted.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        truth: `Instances` with gt_boxes, or detectron2 annotation dicts, in pixels of `image`.
        predictions: `Instances` with pred_boxes, scores and pred_classes, likewise.
        title: short name of the image.
    """

    image: np.ndarray
    truth: Instances | Sequence[dict[str, Any]]
    predictions: Instances
    title: str = ""


def save_comparison_grid(
    path: str | os.PathLike[str],
    items: Sequence[Comparison],
    class_names: Sequence[str],
    score_threshold: float = 0.5,
    *,
    title: str = "",
    columns: int = 3,
) -> Path:
    """Writes a PNG with ground truth (left) beside predictions (right) for every item.

    Args:
        path: where to write; missing folders are made.
        items: the images, in reading order.
        class_names: names by class index.
        score_threshold: predictions with a lower score are not drawn.
        title: a line above the pictures.
        columns: pairs in a row.

    Returns:
        The path of the picture.

    Raises:
        ValueError: There are no items, or an item cannot be drawn (see `draw_detections`).
    """
    if not items:
        raise ValueError("there is no image to draw; mend: give at least one item")
    columns = min(columns, len(items))
    pairs = [_pair(item, class_names, score_threshold) for item in items]
    rows = [pairs[start : start + columns] for start in range(0, len(pairs), columns)]
    heights = [max(pair.height for pair in row) for row in rows]
    pair_width = 2 * _PANEL + _GAP
    width = columns * pair_width + (columns + 1) * _MARGIN
    head = _header(width, title, class_names, score_threshold)
    sheet = Image.new("RGB", (width, head.height + sum(heights) + _MARGIN * len(rows)), _PAPER)
    sheet.paste(head, (0, 0))
    top = head.height
    for row, height in zip(rows, heights):
        for column, pair in enumerate(row):
            sheet.paste(pair, (_MARGIN + column * (pair_width + _MARGIN), top))
        top += height + _MARGIN
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(target, format="PNG")
    return target


def _pair(item: Comparison, class_names: Sequence[str], threshold: float) -> Image.Image:
    """Draws the two panels of one item with a caption above each."""
    size = item.image.shape[:2]
    count = len(Marks.of(item.truth, size))
    found = len(Marks.of(item.predictions, size).above(threshold))
    panels = [
        Image.fromarray(
            draw_detections(
                item.image, source, class_names, score_threshold=threshold, longer_side=_PANEL
            )
        )
        for source in (item.truth, item.predictions)
    ]
    pair = Image.new("RGB", (2 * _PANEL + _GAP, panels[0].height + _CAPTION), _PAPER)
    pen = ImageDraw.Draw(pair)
    left = f"{_short(item.title)}  truth: {count}" if item.title else f"truth: {count}"
    pen.text((0, 4), left, font=font(13), fill=_INK)
    pen.text((_PANEL + _GAP, 4), f"predicted: {found}", font=font(13), fill=_INK)
    for index, panel in enumerate(panels):
        pair.paste(panel, (index * (_PANEL + _GAP), _CAPTION))
    return pair


def _short(title: str) -> str:
    return title if len(title) <= 26 else "..." + title[-23:]


def _header(width: int, title: str, class_names: Sequence[str], threshold: float) -> Image.Image:
    """Draws the title, what left and right mean, and the colours of the classes."""
    head = Image.new("RGB", (width, 400), _PAPER)
    pen = ImageDraw.Draw(head)
    top = 14
    if title:
        pen.text((_MARGIN, top), title, font=font(20, bold=True), fill=_INK)
        top += 32
    line = f"left: ground truth    right: predictions with score >= {threshold:g} (in percent)"
    pen.text((_MARGIN, top), line, font=font(14), fill=_GREY)
    top += 28
    if len(class_names) <= _MAX_LEGEND:
        x = float(_MARGIN)
        for index, name in enumerate(class_names):
            length = 24 + pen.textlength(name, font=font(14)) + 22
            if x + length > width - _MARGIN and x > _MARGIN:
                x, top = float(_MARGIN), top + 24
            colour = class_colour(index)
            pen.rectangle((x, top + 2, x + 16, top + 14), fill=colour, outline=(15, 15, 15))
            pen.text((x + 24, top), name, font=font(14), fill=_INK)
            x += length
        top += 30
    return head.crop((0, 0, width, min(top + 4, head.height)))
