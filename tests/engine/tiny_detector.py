"""A detector of a few hundred weights, its data set and its evaluator, to run the engine on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import Boxes, Instances
from PIL import Image
from torch import nn

CLASSES = ["dark", "light"]
SIZE = 32


def write_scenes(root: Path, count: int = 6) -> None:
    """Grey squares on black, dark or light, one per image; the last image is empty."""
    random = np.random.default_rng(0)
    images, annotations = [], []
    for index in range(count):
        pixels = np.zeros((SIZE, SIZE, 3), np.uint8)
        images.append({"id": index, "file_name": f"{index}.png", "width": SIZE, "height": SIZE})
        if index < count - 1:
            x, y = (int(v) for v in random.integers(0, SIZE - 12, 2))
            pixels[y : y + 12, x : x + 12] = (80, 240)[index % 2]
            annotations.append(
                {"id": index + 1, "image_id": index, "category_id": 5 + index % 2,
                 "bbox": [x, y, 12, 12], "area": 144, "iscrowd": 0}
            )  # fmt: skip
        Image.fromarray(pixels).save(root / f"{index}.png")
    categories = [{"id": 5 + i, "name": name} for i, name in enumerate(CLASSES)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "scenes.json").write_text(json.dumps(content))


class TinyDetector(nn.Module):
    """One object per image: its class and its box, from the mean of a few features."""

    def __init__(self, num_classes: int, poison: str = "", poison_after: int = 0) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.poison, self.poison_after, self.calls = poison, poison_after, 0
        self.backbone = nn.Conv2d(3, 8, 8, stride=4)
        self.sampling_offsets = nn.Linear(8, 8)
        self.classifier = nn.Linear(8, num_classes)
        self.boxes = nn.Linear(8, 4)

    def forward(self, batch: list[dict]) -> dict | list:
        device = self.boxes.weight.device
        images = torch.stack([image["image"] for image in batch]).to(device).float() / 255
        features = self.backbone(images).relu().mean((2, 3))
        features = features + self.sampling_offsets(features)
        logits, boxes = self.classifier(features), self.boxes(features).sigmoid()
        if not self.training:
            return [self._instances(*pair) for pair in zip(logits, boxes)]
        classes, wanted = torch.zeros_like(logits), torch.zeros_like(boxes)
        for row, image in enumerate(batch):
            objects = image["instances"].to(device)
            if len(objects):
                classes[row, objects.gt_classes[0]] = 1
                wanted[row] = objects.gt_boxes.tensor[0] / SIZE
        losses = {
            "one_to_one/0/class": nn.functional.binary_cross_entropy_with_logits(
                logits.float(), classes.float()
            ),
            "one_to_one/0/l1": (boxes - wanted).abs().mean(),
            "mixed/0/l1": 0.5 * (boxes - wanted).abs().mean(),
        }
        self.calls += 1
        if self.calls > self.poison_after and self.poison:
            losses[self.poison] = losses[self.poison] * float("nan")
        return losses

    def _instances(self, logits: torch.Tensor, box: torch.Tensor) -> dict:
        instances = Instances((SIZE, SIZE))
        instances.pred_boxes = Boxes(box[None].float() * SIZE)
        instances.scores, instances.pred_classes = logits.float().sigmoid().max(0, keepdim=True)
        return {"instances": instances}


class CountingEvaluator(DatasetEvaluator):
    """Counts detections; one metric is undefined, as AP is for a size that has no objects."""

    def reset(self) -> None:
        self.count = 0

    def process(self, inputs: list, outputs: list) -> None:
        self.count += sum(len(output["instances"]) for output in outputs)
        assert len(inputs) == len(outputs)

    def evaluate(self) -> dict:
        return {"bbox": {"AP": float(self.count), "APl": float("nan")}}
