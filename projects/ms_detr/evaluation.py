"""detectron2's COCO evaluation, for any build of detectron2 and with the recalls."""

from __future__ import annotations

from typing import Any

from detectron2 import _C
from detectron2.evaluation import COCOEvaluator

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

    Args:
        dataset_name: a data set registered with a COCO json.
        tasks: "bbox" and/or "segm"; None takes what the predictions hold.
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
