"""Masks drawn on a picture: a veil in the colour of the class, and an outline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from detectron2.structures import Instances, PolygonMasks
from PIL import Image

from ..data.segmentations import rasterise
from .style import class_colour

__all__ = ["draw_masks", "masks_of_annotations", "masks_of_instances"]

_VEIL = 0.45  # share of the colour inside a mask


def masks_of_instances(instances: Instances, kind: str) -> np.ndarray | None:
    """The masks (N, H, W), bool, of instances on the CPU; None if they have none.

    Args:
        instances: detectron2's.
        kind: "pred" or "gt", the beginning of the name of the field.
    """
    if not instances.has(f"{kind}_masks"):
        return None
    masks, size = instances.get(f"{kind}_masks"), instances.image_size
    if isinstance(masks, PolygonMasks):
        drawn = [rasterise(polygons, *size) for polygons in masks.polygons]
        return np.array(drawn, dtype=bool).reshape(-1, *size)
    return getattr(masks, "tensor", masks).detach().numpy().astype(bool)


def masks_of_annotations(
    annotations: Sequence[dict[str, Any]], size: tuple[int, int]
) -> np.ndarray | None:
    """The masks (N, *size), bool, of annotation dicts; None if none of them has one.

    Annotations without a mask among others have an empty one.
    """
    if not any(entry.get("segmentation") for entry in annotations):
        return None
    return np.array([rasterise(entry.get("segmentation"), *size) for entry in annotations])


def draw_masks(picture: Image.Image, masks: np.ndarray, classes: np.ndarray) -> Image.Image:
    """A copy of a picture with masks on it, the last one on top.

    Args:
        picture: RGB.
        masks: (N, H, W) bool, of any size; they are stretched over the picture.
        classes: (N,) class indices, for the colours.
    """
    pixels = np.array(picture)
    line = 2 * round(max(picture.size) / 700) + 1  # OpenCV's lines of even width are uneven
    for mask, index in zip(masks, classes):
        veil = Image.fromarray(mask.astype(np.uint8) * 255)
        inside = np.array(veil.resize(picture.size, Image.Resampling.BILINEAR)) > 127
        colour = class_colour(index)
        mixed = (1 - _VEIL) * pixels[inside] + _VEIL * np.array(colour)
        pixels[inside] = mixed.round().astype(np.uint8)
        contours, _ = cv2.findContours(
            inside.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
        )
        cv2.drawContours(pixels, contours, -1, colour, line)
    return Image.fromarray(pixels)
