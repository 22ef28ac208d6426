"""Batches for auxiliary heads that predict from every cell."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ms_detr.structures import Targets
from ms_detr.supervision.auxiliary import AuxiliaryMaps

STRIDES = (8, 16, 32)
CHANNELS = 32
NUM_CLASSES = 3

Object = tuple[int, float, float, float, float]  # class, then corners in pixels


def maps_for(
    sizes: Sequence[tuple[int, int]],
    strides: Sequence[int] = STRIDES,
    *,
    channels: int = CHANNELS,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> AuxiliaryMaps:
    """Random maps of images of these (height, width), with zeros on padding."""
    generator = torch.Generator().manual_seed(seed)
    height, width = (max(side) for side in zip(*sizes))
    maps = []
    for stride in strides:
        shape = (len(sizes), channels, -(-height // stride), -(-width // stride))
        features = torch.randn(shape, generator=generator, dtype=torch.float64)
        for image, (rows, columns) in enumerate(sizes):
            features[image, :, -(-rows // stride) :] = 0
            features[image, :, :, -(-columns // stride) :] = 0
        maps.append(features.to(dtype))
    return AuxiliaryMaps(tuple(maps), tuple(strides), tuple(sizes))


def image_alone(pyramid: AuxiliaryMaps, image: int) -> AuxiliaryMaps:
    """One image of a batch, with no more padding than fills its cells."""
    rows, columns = pyramid.sizes[image]
    maps = tuple(
        features[image : image + 1, :, : -(-rows // stride), : -(-columns // stride)]
        for features, stride in zip(pyramid.maps, pyramid.strides)
    )
    return AuxiliaryMaps(maps, pyramid.strides, (pyramid.sizes[image],))


def targets_of(
    pyramid: AuxiliaryMaps, images: Sequence[Sequence[Object]], dtype: torch.dtype = torch.float64
) -> Targets:
    """The objects of every image."""
    rows, labels = [], []
    for (height, width), objects in zip(pyramid.sizes, images):
        for label, x0, y0, x1, y1 in objects:
            center = [(x0 + x1) / 2 / width, (y0 + y1) / 2 / height]
            rows.append([*center, (x1 - x0) / width, (y1 - y0) / height])
            labels.append(label)
    return Targets(
        labels_G=torch.tensor(labels, dtype=torch.int64),
        boxes_G4=torch.tensor(rows, dtype=dtype).reshape(-1, 4),
        counts=tuple(map(len, images)),
        num_boxes=torch.tensor(max(1.0, len(labels))),
    )


# Sizes of a batch with padding, and its objects; the second image has none.
SIZES = ((128, 96), (50, 128), (70, 100))
OBJECTS: tuple[tuple[Object, ...], ...] = (
    ((0, 10, 20, 60, 90), (2, 40, 60, 96, 128), (1, 30, 30, 42, 41)),
    (),
    ((1, 60, 20, 100, 70), (1, 5, 5, 50, 60), (0, 80, 50, 100, 70)),
)
