"""A small data set in the format of LVIS v1, with images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

RARE, COMMON, FREQUENT = 1203, 77, 1  # category ids of annotations; 1203 is the last one


def polygon(x: float, y: float, width: float, height: float) -> list[float]:
    return [x, y, x + width, y, x + width, y + height, x, y + height]


def content() -> dict:
    """Three images; the rare class is in one of them, the frequent one in all."""
    images = [
        {
            "id": number,
            "coco_url": f"http://images.cocodataset.org/val2017/{number:012d}.jpg",
            "width": 100,
            "height": 80,
            "neg_category_ids": [5],
            "not_exhaustive_category_ids": [],
        }
        for number in (1, 2, 3)
    ]
    places = [
        (1, FREQUENT, (10, 10, 30, 20)),
        (1, RARE, (50, 30, 40, 40)),
        (2, FREQUENT, (5, 40, 60, 35)),
        (2, COMMON, (70, 5, 20, 20)),
        (3, FREQUENT, (20, 20, 50, 50)),
    ]
    annotations = [
        {
            "id": number,
            "image_id": image,
            "category_id": category,
            "bbox": list(map(float, box)),
            "area": float(box[2] * box[3]),
            "segmentation": [polygon(*box)],
        }
        for number, (image, category, box) in enumerate(places, start=1)
    ]
    frequencies = {RARE: "r", COMMON: "c"}
    categories = [
        {"id": number, "name": f"class {number}", "frequency": frequencies.get(number, "f")}
        for number in range(1, 1204)
    ]
    return {"images": images, "annotations": annotations, "categories": categories}


def write(root: Path, made: dict) -> Path:
    """Writes the json and the images; returns the path of the json."""
    (root / "val2017").mkdir(parents=True, exist_ok=True)
    for image in made["images"]:
        pixels = np.full((image["height"], image["width"], 3), 40 * image["id"], dtype=np.uint8)
        Image.fromarray(pixels).save(root / "val2017" / f"{image['id']:012d}.jpg")
    path = root / "lvis.json"
    path.write_text(json.dumps(made))
    return path
