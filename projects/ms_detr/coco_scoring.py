"""COCO's scores of very many detections: kept as arrays, scored one group of categories at a time.

COCO's own code, and detectron2's around it, hold several Python objects per detection and threshold
until the end. Categories do not look at each other, so scoring them in groups gives the same bits
while only one group is unpacked.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TextIO, cast

import numpy as np
from pycocotools import mask as mask_util
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

__all__ = ["Detections", "ImageDetections", "score", "write_results"]

GROUP = 50_000
"""Detections that are unpacked at a time, unless a single category has more."""


@dataclass(frozen=True)
class ImageDetections:
    """The N detections of one image, in the order in which they came.

    Attributes:
        classes_N: class indices.
        scores_N: the higher the better.
        boxes_N4: (x, y, width, height) in pixels; None where detections have no boxes.
        masks: COCO's run length encodings; None where detections have no masks.
    """

    classes_N: np.ndarray
    scores_N: np.ndarray
    boxes_N4: np.ndarray | None
    masks: tuple[dict[str, Any], ...] | None

    @classmethod
    def pack(cls, results: Sequence[dict[str, Any]]) -> ImageDetections:
        """From COCO's results format, with class indices in place of category ids.

        Boxes (or masks) are kept only if all have them.
        """
        boxes = [result["bbox"] for result in results if "bbox" in result]
        masks = [result["segmentation"] for result in results if "segmentation" in result]
        complete = len(boxes) == len(results)
        return cls(
            np.array([result["category_id"] for result in results], dtype=np.int64),
            np.array([result["score"] for result in results], dtype=np.float64),
            np.array(boxes, dtype=np.float64).reshape(-1, 4) if complete else None,
            tuple(masks) if results and len(masks) == len(results) else None,
        )

    def __len__(self) -> int:
        return len(self.scores_N)

    def results(self, image_id: int, category_ids: Sequence[int]) -> list[dict[str, Any]]:
        """Back to COCO's results format, with category ids."""
        columns: dict[str, Iterable[Any]] = {
            "category_id": [category_ids[index] for index in self.classes_N.tolist()]
        }
        if self.boxes_N4 is not None:
            columns["bbox"] = self.boxes_N4.tolist()
        columns["score"] = self.scores_N.tolist()
        if self.masks is not None:
            columns["segmentation"] = self.masks
        return [{"image_id": image_id, **dict(zip(columns, row))} for row in zip(*columns.values())]


class Detections:
    """The detections of a whole data set.

    Args:
        images: image id and detections of every image.
        category_ids: category id of each class index.
    """

    def __init__(
        self, images: Sequence[tuple[int, ImageDetections]], category_ids: Sequence[int]
    ) -> None:
        self.images, self.category_ids = images, category_ids
        found = [detections for _, detections in images]
        self.image_N = np.repeat(np.arange(len(images)), [len(image) for image in found])
        self.place_N = np.concatenate([np.zeros(0, int), *(np.arange(len(i)) for i in found)])
        self.class_N = np.concatenate([np.zeros(0, int), *(image.classes_N for image in found)])
        self.score_N = np.concatenate([np.zeros(0), *(image.scores_N for image in found)])

    def __len__(self) -> int:
        return len(self.score_N)

    def groups(self) -> Iterator[list[int]]:
        """Class indices in runs of about `GROUP` detections, all of them, in order of their ids."""
        counts = np.bincount(self.class_N, minlength=len(self.category_ids))
        group: list[int] = []
        for index in np.argsort(self.category_ids).tolist():
            if group and counts[group].sum() + counts[index] > GROUP:
                yield group
                group = []
            group.append(index)
        yield group

    def entries(self, classes: Sequence[int], task: str, most: int) -> list[dict[str, Any]]:
        """Detections of some classes as COCO's code wants them.

        Args:
            classes: class indices.
            task: "bbox" or "segm".
            most: detections per image and category that are looked at, the best ones.
        """
        chosen = np.flatnonzero(np.isin(self.class_N, classes))
        keys = (-self.score_N[chosen], self.class_N[chosen], self.image_N[chosen])
        chosen = chosen[np.lexsort(keys)]  # stable, as COCO's own sorting
        together = np.stack([self.image_N[chosen], self.class_N[chosen]])
        first = np.ones(len(chosen), bool)
        first[1:] = (together[:, 1:] != together[:, :-1]).any(0)
        starts = np.flatnonzero(first)
        rank = np.arange(len(chosen)) - np.repeat(starts, np.diff([*starts, len(chosen)]))
        rows = chosen[rank < most]
        columns = (self.image_N[rows], self.place_N[rows], self.class_N[rows], self.score_N[rows])
        return [
            self._entry(task, number, *row)
            for number, row in enumerate(zip(*(column.tolist() for column in columns)), start=1)
        ]

    def _entry(
        self, task: str, number: int, image: int, place: int, class_index: int, score: float
    ) -> dict[str, Any]:
        image_id, found = self.images[image]
        entry = {
            "id": number,
            "image_id": image_id,
            "category_id": self.category_ids[class_index],
            "score": score,
            "iscrowd": 0,
        }
        if task == "segm":
            mask = cast(tuple, found.masks)[place]
            return {**entry, "segmentation": mask, "area": mask_util.area(mask)}
        box = cast(np.ndarray, found.boxes_N4)[place].tolist()
        return {**entry, "bbox": box, "area": box[2] * box[3]}


def score(
    truth: COCO,
    detections: Detections,
    task: str,
    evaluation: type[COCOeval],
    image_ids: Sequence[int] | None = None,
) -> COCOeval:
    """COCO's evaluation of all detections, summarised: `eval` and `stats` are complete.

    Args:
        truth: the annotations; all its categories are scored.
        detections: at least one, on images of ``truth``.
        task: "bbox" or "segm".
        evaluation: `COCOeval` or a class that computes the same.
        image_ids: score these images only; None: all.
    """
    parts = []
    whole = evaluation(truth, iouType=task)
    whole.cocoDt = None
    if image_ids is not None:
        whole.params.imgIds = list(image_ids)
    for classes in detections.groups():
        found = COCO()
        found.dataset = {
            "images": truth.dataset["images"],
            "categories": truth.dataset["categories"],
            "annotations": detections.entries(classes, task, max(whole.params.maxDets)),
        }
        with contextlib.redirect_stdout(io.StringIO()):
            found.createIndex()
            part = evaluation(truth, found, task)
            part.params.imgIds = whole.params.imgIds
            part.params.catIds = [detections.category_ids[index] for index in classes]
            part.evaluate()
            part.accumulate()
        parts.append(part.eval)
    whole.eval = _joined(parts)
    whole.summarize()
    return whole


def _joined(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The evaluations of groups of categories as one."""
    joined = dict(parts[0])
    for name, axis in (("precision", 2), ("scores", 2), ("recall", 1)):
        joined[name] = np.concatenate([part[name] for part in parts], axis=axis)
    joined["counts"] = list(joined["precision"].shape)
    return joined


def write_results(detections: Detections, file: TextIO) -> None:
    """Writes COCO's results format, as `json.dumps` of all results would, image by image."""
    file.write("[")
    separator = ""
    for image_id, image in detections.images:
        if len(image):
            text = json.dumps(image.results(image_id, detections.category_ids))
            file.write(separator + text[1:-1])
            separator = ", "
    file.write("]")
