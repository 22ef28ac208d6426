"""What the published evaluation makes of recorded predictions, in plain NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from detectron2.structures import Instances

from .case import GoldenCase

NMS_CANDIDATES = 10_000


@dataclass(frozen=True)
class Detections:
    """Detections of one image in its pixels: (M,) scores and classes, (M, 4) corners."""

    scores: np.ndarray
    classes: np.ndarray
    boxes: np.ndarray

    @classmethod
    def from_instances(cls, found: Instances) -> Detections:
        """Take over what the detector returns."""
        tensors = (found.scores, found.pred_classes, found.pred_boxes.tensor)
        return cls(*(tensor.detach().cpu().numpy() for tensor in tensors))

    def count_wrong_classes(self, other: Detections) -> int:
        """Detections whose class is another one; all of them if the numbers differ."""
        if len(self.classes) != len(other.classes):
            return max(len(self.classes), len(other.classes))
        return int((self.classes != other.classes).sum())

    def ordered(self) -> Detections:
        """By class, then left edge: an order that equal scores cannot change."""
        order = np.lexsort((self.boxes[:, 0], self.classes))
        return Detections(self.scores[order], self.classes[order], self.boxes[order])


def expected_detections(
    case: GoldenCase, image_sizes: Sequence[tuple[int, int]], threshold: float | None
) -> list[Detections]:
    """Top-k over all (query, class) pairs of every image.

    Args:
        case: has the predictions of the last layer, and k.
        image_sizes: (height, width) of every image.
        threshold: IoU of class-wise suppression before; None for no suppression.
    """
    logits = case.arrays["o2o_logits.f64r"][-1].astype(np.float64)
    boxes = case.arrays["o2o_boxes.f64"][-1]
    top = case.args["topk_eval"]
    return [
        _of_image(image_logits, image_boxes, size, top, threshold)
        for image_logits, image_boxes, size in zip(logits, boxes, image_sizes)
    ]


def _of_image(
    logits: np.ndarray, boxes: np.ndarray, size: tuple[int, int], top: int, threshold: float | None
) -> Detections:
    scores = 1 / (1 + np.exp(-logits))
    order = np.argsort(-scores, axis=None, kind="stable")
    if threshold is None:
        order = order[:top]
    query, classes = np.unravel_index(order[:NMS_CANDIDATES], scores.shape)
    center, half = boxes[query, :2], boxes[query, 2:] / 2
    height, width = size
    corners = np.concatenate([center - half, center + half], 1) * [width, height, width, height]
    found = Detections(scores[query, classes], classes, corners)
    if threshold is None:
        return found
    kept = _suppress(found, threshold)[:top]
    return Detections(found.scores[kept], found.classes[kept], found.boxes[kept])


def _suppress(found: Detections, threshold: float) -> list[int]:
    """Greedy class-wise non-maximum suppression; the detections come best first."""
    area = (found.boxes[:, 2:] - found.boxes[:, :2]).prod(1)
    alive = np.ones(len(area), dtype=bool)
    kept = []
    for best in range(len(area)):
        if not alive[best]:
            continue
        kept.append(best)
        low = np.maximum(found.boxes[best, :2], found.boxes[:, :2])
        high = np.minimum(found.boxes[best, 2:], found.boxes[:, 2:])
        common = (high - low).clip(min=0).prod(1)
        iou = common / (area[best] + area - common)
        alive &= (iou <= threshold) | (found.classes != found.classes[best])
    return kept
