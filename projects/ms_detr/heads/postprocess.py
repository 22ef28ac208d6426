"""From the last layer's predictions to detections.

Detections are made at once in the size of the wanted output: boxes are fractions, so nothing is
resized afterwards. As in the published evaluation of DETR and its descendants, a box may reach
beyond the image, and an empty one is kept; `ClippedDetections` cuts and drops them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from detectron2.structures import Boxes, Instances
from torch import Tensor
from torchvision.ops import batched_nms, box_convert

from ..structures import LayerPredictions
from .masks import paste_masks

_NMS_CANDIDATES = 10_000  # pairs that the published suppression looks at


class Postprocess:
    """Turns predictions into detectron2 Instances."""

    def __call__(
        self, predictions: LayerPredictions, output_sizes: Sequence[tuple[int, int]]
    ) -> list[Instances]:
        """One Instances an image, best score first.

        Args:
            predictions: of the last decoder layer; boxes are fractions of the image.
            output_sizes: (height, width) that each image's detections are wanted in; in an
                evaluation that of the picture in the data set, whatever the detector was shown.

        Returns:
            Instances of these sizes with pred_boxes (x0, y0, x1, y1), scores in [0, 1],
            pred_classes and, if masks are predicted, pred_masks (M, height, width), bool.

        Raises:
            ValueError: there is not one size for each image.
        """
        raise NotImplementedError


class TopKDetections(Postprocess):
    """The best (query, class) pairs of an image; a query may give several detections.

    Args:
        num_detections: detections per image; the published results use 100, with 900 queries 300.
    """

    def __init__(self, num_detections: int = 100):
        self.num_detections = _at_least_one(num_detections)

    def __call__(
        self, predictions: LayerPredictions, output_sizes: Sequence[tuple[int, int]]
    ) -> list[Instances]:
        pairs = best_pairs(predictions, output_sizes, self.num_detections)
        return [
            instances_of(predictions, image, size, found)
            for image, (size, found) in enumerate(zip(output_sizes, pairs))
        ]


class NMSDetections(Postprocess):
    """The best pairs that remain after non-maximum suppression in every class.

    The published evaluation offers it for detectors with duplicates, such as one that is taught
    one-to-many only; a detector with one-to-one supervision does without. It looks at the best
    10000 (query, class) pairs of an image, in pixels of the output. On the command line:
    ``model.postprocess._target_=ms_detr.heads.NMSDetections model.postprocess.iou_threshold=0.7``.

    Args:
        num_detections: detections per image after the suppression.
        iou_threshold: in [0, 1]; a box goes if a better one of its class overlaps it by more.
    """

    def __init__(self, num_detections: int = 100, iou_threshold: float = 0.7):
        self.num_detections = _at_least_one(num_detections)
        if not 0 <= iou_threshold <= 1:
            raise ValueError(f"iou_threshold must be in [0, 1], got {iou_threshold}")
        self.iou_threshold = iou_threshold

    def __call__(
        self, predictions: LayerPredictions, output_sizes: Sequence[tuple[int, int]]
    ) -> list[Instances]:
        pairs = best_pairs(predictions, output_sizes, _NMS_CANDIDATES)
        kept = []
        for image, (size, found) in enumerate(zip(output_sizes, pairs)):
            keep = self._suppress(found.boxes_M4, found.scores_M, found.labels_M)
            found = ScoredPairs(*(values[keep[: self.num_detections]] for values in found))
            kept.append(instances_of(predictions, image, size, found))
        return kept

    def _suppress(self, boxes_M4: Tensor, scores_M: Tensor, labels_M: Tensor) -> Tensor:
        """Indices of the pairs that stay, best first."""
        if not len(boxes_M4):
            return labels_M
        # Depending on their number and device torchvision parts the classes by moving them apart,
        # each by the largest coordinate. Boxes beyond the image could then meet those of another
        # class, and far away float32 has steps of a hundredth of a pixel: hence from zero, double.
        boxes_M4 = boxes_M4.double()
        return batched_nms(
            boxes_M4 - boxes_M4.min(), scores_M.double(), labels_M, self.iou_threshold
        )


class ClippedDetections(Postprocess):
    """The detections of another post-processing, cut to the image; what is outside is dropped.

    Not part of the published evaluation. It helps where annotated boxes end at the border, above
    all a detector that was trained for a short time: after the two small recipes of this project
    it adds 0.5 and 1.2 points of AP. In a config:
    ``model.postprocess = L(ClippedDetections)(detections=model.postprocess)``.

    Args:
        detections: what selects the detections.
    """

    def __init__(self, detections: Postprocess):
        self.detections = detections

    def __call__(
        self, predictions: LayerPredictions, output_sizes: Sequence[tuple[int, int]]
    ) -> list[Instances]:
        clipped = []
        for found in self.detections(predictions, output_sizes):
            found.pred_boxes.clip(found.image_size)
            clipped.append(found[found.pred_boxes.nonempty()])
        return clipped


def _at_least_one(num_detections: int) -> int:
    if num_detections < 1:
        raise ValueError(f"num_detections must be at least 1, got {num_detections}")
    return num_detections


class ScoredPairs(NamedTuple):
    """(query, class) pairs of an image, best score first; boxes are in pixels."""

    boxes_M4: Tensor
    scores_M: Tensor
    labels_M: Tensor
    query_M: Tensor


def best_pairs(
    predictions: LayerPredictions, output_sizes: Sequence[tuple[int, int]], count: int
) -> list[ScoredPairs]:
    """The ``count`` best pairs of every image, or all if there are fewer."""
    batch, _, num_classes = predictions.logits_BNK.shape
    if len(output_sizes) != batch:
        raise ValueError(
            f"predictions of {batch} images, but {len(output_sizes)} output sizes; give one "
            "(height, width) for each image"
        )
    scores_BP = predictions.logits_BNK.sigmoid().flatten(1)
    scores_BM, pairs_BM = scores_BP.topk(min(count, scores_BP.shape[1]))
    boxes_BN4 = box_convert(predictions.boxes_BN4, "cxcywh", "xyxy")
    query_BM = torch.div(pairs_BM, num_classes, rounding_mode="floor")
    boxes_BM4 = boxes_BN4.gather(1, query_BM[..., None].expand(-1, -1, 4))
    scales = [[width, height, width, height] for height, width in output_sizes]
    boxes_BM4 = boxes_BM4 * boxes_BM4.new_tensor(scales).reshape(batch, 1, 4)
    images = zip(boxes_BM4, scores_BM, pairs_BM % num_classes, query_BM)
    return [ScoredPairs(*image) for image in images]


def instances_of(
    predictions: LayerPredictions, image: int, size: tuple[int, int], found: ScoredPairs
) -> Instances:
    """Detections of one image, with masks where they are predicted."""
    height, width = size
    instances = Instances(
        (height, width),
        pred_boxes=Boxes(found.boxes_M4),
        scores=found.scores_M,
        pred_classes=found.labels_M,
    )
    if predictions.masks is not None:
        instances.pred_masks = paste_masks(predictions.masks, image, found.query_M, (height, width))
    return instances
