"""From the last layer's predictions to detections."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detectron2.structures import Boxes, Instances
from torch import Tensor
from torchvision.ops import box_convert

from ..structures import LayerPredictions


class Postprocess:
    """Turns predictions into detectron2 Instances."""

    def __call__(
        self, predictions: LayerPredictions, image_sizes: Sequence[tuple[int, int]]
    ) -> list[Instances]:
        """One Instances an image, in its pixels, best score first.

        Args:
            predictions: of the last decoder layer.
            image_sizes: (height, width) of the images without padding.
        """
        raise NotImplementedError


class TopKDetections(Postprocess):
    """The best (query, class) pairs of an image; a query may give several detections.

    Args:
        num_detections: detections per image; the published results use 100, with 900 queries 300.
    """

    def __init__(self, num_detections: int = 100):
        if num_detections < 1:
            raise ValueError(f"num_detections must be at least 1, got {num_detections}")
        self.num_detections = num_detections

    def __call__(
        self, predictions: LayerPredictions, image_sizes: Sequence[tuple[int, int]]
    ) -> list[Instances]:
        num_classes = predictions.logits_BNK.shape[-1]
        scores_BM = predictions.logits_BNK.sigmoid().flatten(1)
        scores, index = scores_BM.topk(min(self.num_detections, scores_BM.shape[1]))
        boxes = box_convert(predictions.boxes_BN4, "cxcywh", "xyxy")
        query = torch.div(index, num_classes, rounding_mode="floor")
        boxes = boxes.gather(1, query[..., None].expand(-1, -1, 4))
        return [
            self._instances(size, *image)
            for size, *image in zip(image_sizes, boxes, scores, index % num_classes)
        ]

    @staticmethod
    def _instances(size: tuple[int, int], boxes: Tensor, scores: Tensor, labels: Tensor):
        height, width = size
        instances = Instances((height, width))
        instances.pred_boxes = Boxes(boxes * boxes.new_tensor([width, height] * 2))
        instances.scores = scores
        instances.pred_classes = labels
        return instances
