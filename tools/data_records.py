"""Images with objects for tools/benchmark_data.py, as detectron2's records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from detectron2.structures import BoxMode
from PIL import Image

WIDTH, HEIGHT, OBJECTS, CORNERS = 640, 480, 7, 24


def generated_records(folder: Path, count: int) -> list[dict]:
    """Writes images of smooth noise, as large as COCO's (about 100 kB), with polygons on them."""
    random = np.random.default_rng(0)
    paths = []
    for number in range(count):
        pixels = np.zeros((HEIGHT, WIDTH, 3))
        for side, strength in ((8, 60.0), (40, 25.0), (160, 12.0)):
            noise = random.standard_normal((HEIGHT * side // WIDTH, side, 3)) * strength
            for channel in range(3):
                layer = Image.fromarray(noise[..., channel].astype(np.float32))
                pixels[..., channel] += layer.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        paths.append(folder / f"{number}.jpg")
        image = np.clip(pixels + 128, 0, 255).astype(np.uint8)
        Image.fromarray(image).save(paths[-1], quality=95)
    return records_of(paths)


def records_of(paths: Sequence[Path]) -> list[dict]:
    """Records of image files, each with seven polygons of 24 corners somewhere in it."""
    random = np.random.default_rng(0)
    records = []
    for number, path in enumerate(paths):
        with Image.open(path) as image:
            width, height = image.size
        records.append(
            {
                "file_name": str(path),
                "image_id": number,
                "height": height,
                "width": width,
                "annotations": [_annotation(random, width, height) for _ in range(OBJECTS)],
            }
        )
    return records


def _annotation(random: np.random.Generator, width: int, height: int) -> dict:
    half = (0.05 + 0.15 * random.random(2)) * (width, height)
    center = half + random.random(2) * ((width, height) - 2 * half)
    angles = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    radii = (0.8 + 0.2 * random.random(CORNERS))[:, None]
    corners = center + half * radii * np.stack([np.cos(angles), np.sin(angles)], 1)
    (x0, y0), (x1, y1) = corners.min(0), corners.max(0)
    return {
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": int(random.integers(80)),
        "iscrowd": 0,
        "segmentation": [corners.ravel().tolist()],
    }
