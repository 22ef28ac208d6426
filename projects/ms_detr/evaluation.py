"""detectron2's COCO evaluation, for any build of detectron2, with the recalls, and from a file."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

from detectron2 import _C
from detectron2.evaluation import COCOEvaluator
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from pycocotools.cocoeval import COCOeval

from .coco_scoring import Detections, ImageDetections, score, write_results
from .data.errors import DatasetError
from .data.segmentations import box_of

__all__ = ["CocoEvaluator", "has_fast_evaluation"]

_RECALLS = ("AR1", "AR10", "AR100", "ARs", "ARm", "ARl")  # positions 6 to 11 of COCOeval.stats


def has_fast_evaluation() -> bool:
    """Whether this build of detectron2 has the compiled COCO evaluation."""
    return hasattr(_C, "COCOevalEvaluateImages")


def _evaluation(fast: bool) -> type[COCOeval]:
    if not fast:
        return COCOeval
    from detectron2.evaluation.fast_eval_api import COCOeval_opt  # needs the compiled part

    return COCOeval_opt


class CocoEvaluator(COCOEvaluator):
    """`COCOEvaluator` that uses the compiled evaluation where there is one, and reports recall.

    For boxes and masks the result holds COCO's twelve numbers, in percent: AP, AP50, AP75, APs,
    APm, APl as detectron2 names them, and AR1, AR10, AR100, ARs, ARm, ARl. A number that is not
    defined (no object of that size, or no detection at all) is NaN, as detectron2 has it.

    Where the json has masks and no boxes, those of the masks are true, as in training.

    Numbers are those of detectron2's class, bit by bit, in a fraction of its memory: see
    `ms_detr.coco_scoring`. With `output_dir`, its `coco_instances_results.json` is the same, and
    its `instances_predictions.pth` holds an `ImageDetections` per image.

    Args:
        dataset_name: a data set registered with a COCO json.
        tasks: "bbox" and/or "segm"; None takes what the predictions hold, which are boxes alone
            if nothing at all was detected.
        distributed: gather the predictions of all processes.
        output_dir: folder for `coco_instances_results.json`; None writes nothing.
    """

    def __init__(
        self,
        dataset_name: str,
        tasks: tuple[str, ...] | None = None,
        distributed: bool = True,
        output_dir: str | None = None,
    ) -> None:
        super().__init__(
            dataset_name,
            tasks=None if tasks is None else tuple(tasks),
            distributed=distributed,
            output_dir=output_dir,
            use_fast_impl=has_fast_evaluation(),
        )
        for entry in self._coco_api.anns.values():
            if "bbox" not in entry:
                entry["bbox"] = box_of(entry["segmentation"])

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Takes the detections of some images, as detectron2's, and keeps them as arrays."""
        before = len(self._predictions)
        super().process(inputs, outputs)
        self._pack(before)

    def _pack(self, begin: int) -> None:
        for prediction in self._predictions[begin:]:
            prediction["instances"] = ImageDetections.pack(prediction["instances"])

    def evaluate_results(self, results_json: str | os.PathLike[str]) -> dict[str, dict]:
        """Scores detections from a file in COCO's results format, on the path of `evaluate`.

        Args:
            results_json: a list of {"image_id", "category_id", "score", "bbox" and/or
                "segmentation"} with the category ids of the data set, such as the
                `coco_instances_results.json` that evaluation writes. Results without "bbox" need
                `tasks=("segm",)`.

        Returns:
            The same as `evaluate`.

        Raises:
            DatasetError: The file cannot be read, or names an unknown image or category.
        """
        self.reset()
        if comm.is_main_process():
            self._predictions = self._read_results(Path(results_json))
            self._pack(0)
        return self.evaluate()

    def _read_results(self, path: Path) -> list[dict]:
        """Groups results by image, with class indices in place of category ids."""
        try:
            results = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise DatasetError(f"{path}: cannot be read: {error}; mend: check the file") from error
        if not isinstance(results, list):
            raise DatasetError(
                f"{path}: a {type(results).__name__}, not a list; mend: give a file in COCO's "
                "results format"
            )
        to_class = self._metadata.thing_dataset_id_to_contiguous_id
        by_image = defaultdict(list)
        for position, result in enumerate(results):
            for key, known in (("category_id", to_class), ("image_id", self._coco_api.imgs)):
                if result.get(key) not in known:
                    raise DatasetError(
                        f"{path}: result {position} has {key} {result.get(key)!r}, which "
                        f"{self._metadata.json_file} does not have; mend: score the file "
                        "against the data set that it was made on"
                    )
            result["category_id"] = to_class[result["category_id"]]
            by_image[result["image_id"]].append(result)
        return [
            {"image_id": number, "instances": by_image.get(number, [])}
            for number in self._coco_api.getImgIds()
        ]

    def _eval_predictions(self, predictions: list[dict], img_ids: Any = None) -> None:
        """Scores what `evaluate` has gathered, in place of detectron2's own way."""
        images = [(image["image_id"], image["instances"]) for image in predictions]
        found = [image for _, image in images if len(image)]
        with_masks = bool(found) and any(image.masks is not None for image in found)
        tasks = sorted(self._tasks or (("bbox", "segm") if with_masks else ("bbox",)))
        self._check_detections(images, tasks)
        detections = Detections(images, self._category_ids())
        if self._output_dir:
            path = os.path.join(self._output_dir, "coco_instances_results.json")
            self._logger.info("Saving results to %s", path)
            with PathManager.open(path, "w") as file:
                write_results(detections, file)
        if not self._do_evaluation:
            self._logger.info("Annotations are not available for evaluation.")
            return
        kind = _evaluation(self._use_fast_impl)
        for task in tasks:
            scored = None
            if len(detections):
                scored = score(self._coco_api, detections, task, kind, img_ids)
            self._results[task] = self._derive_coco_results(
                scored, task, class_names=self._metadata.get("thing_classes")
            )

    def _category_ids(self) -> list[int]:
        """Category id of every class index."""
        to_class = self._metadata.thing_dataset_id_to_contiguous_id
        return sorted(to_class, key=to_class.__getitem__)

    def _check_detections(self, images: list[tuple[int, ImageDetections]], tasks: Any) -> None:
        """Asks for what an evaluation needs, before COCO's code stumbles."""
        num_classes = len(self._metadata.thing_dataset_id_to_contiguous_id)
        for image_id, image in images:
            if image_id not in self._coco_api.imgs:
                raise DatasetError(
                    f"detections of image {image_id!r}, which {self._metadata.json_file} does not "
                    "have; mend: dataloader.evaluator.dataset_name, that of dataloader.test"
                )
            if len(image) and not 0 <= image.classes_N.min() <= image.classes_N.max() < num_classes:
                raise DatasetError(
                    f"image {image_id}: detections of class {image.classes_N.max()}, but "
                    f"{self._metadata.json_file} has {num_classes} classes; mend: "
                    "model.heads.num_classes, or the data set"
                )
            if "segm" in tasks and len(image) and image.masks is None:
                raise DatasetError(
                    "masks are to be evaluated, but the detections have none (pred_masks); mend: "
                    "dataloader.evaluator.tasks=[bbox], or a model with a mask head"
                )
            if "bbox" in tasks and image.boxes_N4 is None:
                raise DatasetError(
                    f"boxes are to be evaluated, but image {image_id} has detections without one; "
                    "mend: dataloader.evaluator.tasks=[segm]"
                )
        if "segm" in tasks:
            self._require_true_masks()

    def _require_true_masks(self) -> None:
        for entry in self._coco_api.anns.values():
            if not entry.get("segmentation"):
                raise DatasetError(
                    f"{self._metadata.json_file}: annotation {entry['id']} (image "
                    f"{entry['image_id']}) has no mask, so masks cannot be evaluated; mend: "
                    "annotate it, or evaluate boxes only with dataloader.evaluator.tasks=[bbox] "
                    "dataloader.test.dataset.maskless=keep"
                )

    def _derive_coco_results(
        self, coco_eval: Any, iou_type: str, class_names: list[str] | None = None
    ) -> dict[str, float]:
        """Adds the recalls to detectron2's table; `coco_eval` is None without any detection."""
        results = super()._derive_coco_results(coco_eval, iou_type, class_names)
        if iou_type in ("bbox", "segm"):
            for position, name in enumerate(_RECALLS, start=6):
                value = float("nan") if coco_eval is None else float(coco_eval.stats[position])
                results[name] = 100 * value if value >= 0 else float("nan")
        return results
