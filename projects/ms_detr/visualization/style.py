"""Colours and fonts that all pictures share."""

from __future__ import annotations

import colorsys
from functools import lru_cache
from pathlib import Path

import matplotlib
from PIL import ImageFont

__all__ = ["class_colour", "font", "ink_on"]

# ten colours that stay apart from each other and from most photographs
_PALETTE = (
    (255, 92, 77),
    (64, 169, 255),
    (255, 200, 46),
    (75, 205, 110),
    (190, 120, 255),
    (255, 140, 30),
    (60, 220, 210),
    (255, 120, 190),
    (170, 210, 60),
    (205, 160, 120),
)


def class_colour(index: int) -> tuple[int, int, int]:
    """RGB colour of a class index; the first ten are chosen by hand, the rest by golden angle."""
    if index < len(_PALETTE):
        return _PALETTE[index]
    red, green, blue = colorsys.hsv_to_rgb((index * 0.618034) % 1.0, 0.65, 0.98)
    return round(255 * red), round(255 * green), round(255 * blue)


def ink_on(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """Black or white, whichever reads better on a colour."""
    luminance = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    return (20, 20, 20) if luminance > 125 else (255, 255, 255)


@lru_cache(maxsize=16)
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The DejaVu font that comes with matplotlib, so that pictures look the same everywhere."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", name)), size)
