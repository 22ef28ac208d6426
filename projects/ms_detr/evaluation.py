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

from .data.errors import DatasetError
from .data.segmentations import box_of

__all__ = ["CocoEvaluator", "has_fast_evaluation"]

_RECALLS = ("AR1", "AR10", "AR100", "ARs", "ARm", "ARl")  # positions 6 to 11 of COCOeval.stats


def has_fast_evaluation() -> bool:
    """Whether this build of detectron2 has the compiled COCO evaluation."""
    return hasattr(_C, "COCOevalEvaluateImages")


class CocoEvaluator(COCOEvaluator):
    """`COCOEvaluator` that uses the compiled evaluation where there is one, and reports recall.

    For boxes and masks the result holds COCO's twelve numbers, in percent: AP, AP50, AP75, APs,
    APm, APl as detectron2 names them, and AR1, AR10, AR100, ARs, ARm, ARl. A number that is not
    defined (no object of that size, or no detection at all) is NaN, as detectron2 has it.

    Where the json has masks and no boxes, those of the masks are true, as in training.

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
        """Asks for the masks that an evaluation of masks needs, before COCOeval stumbles."""
        results = [result for image in predictions for result in image["instances"]]
        if "segm" in (self._tasks or self._tasks_from_predictions(results)):
            if any("segmentation" not in result for result in results):
                raise DatasetError(
                    "masks are to be evaluated, but the detections have none (pred_masks); mend: "
                    "dataloader.evaluator.tasks=[bbox], or a model with a mask head"
                )
            self._require_true_masks()
        super()._eval_predictions(predictions, img_ids)

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
