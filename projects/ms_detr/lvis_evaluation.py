"""detectron2's LVIS evaluation, with a clear error where its package is missing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from detectron2.evaluation import LVISEvaluator

from .data.lvis import require_lvis

__all__ = ["LvisEvaluator"]


class LvisEvaluator(LVISEvaluator):
    """`LVISEvaluator` for any NumPy, whose undefined numbers are NaN as those of COCO are.

    Boxes and masks have AP, AP50, AP75, APs, APm, APl, and APr, APc, APf of rare, common and
    frequent classes, in percent. Undefined is a number of which there is no object in the data.

    Args:
        dataset_name: a data set registered with a json in LVIS's format.
        tasks: "bbox" and/or "segm"; None takes what the predictions hold.
        distributed: gather the predictions of all processes.
        output_dir: folder for `lvis_instances_results.json`; None writes nothing.

    Raises:
        DatasetError: the package `lvis` is not installed.
    """

    def __init__(
        self,
        dataset_name: str,
        tasks: tuple[str, ...] | None = None,
        distributed: bool = True,
        output_dir: str | None = None,
    ) -> None:
        require_lvis()
        super().__init__(
            dataset_name,
            tasks=None if tasks is None else tuple(tasks),
            distributed=distributed,
            output_dir=output_dir,
        )

    def evaluate(self) -> dict[str, dict[str, float]] | None:
        """Scores what was processed; None on all processes but the first."""
        with _old_numpy_name():
            results = super().evaluate()
        if results is None:
            return None
        return {
            task: {name: value if value >= 0 else math.nan for name, value in numbers.items()}
            for task, numbers in results.items()
        }


@contextmanager
def _old_numpy_name() -> Iterator[None]:
    """Lends NumPy the name `float`, gone since 1.24, which lvis 0.5.3, its newest, still uses."""
    if hasattr(np, "float"):
        yield
        return
    np.float = float  # type: ignore[attr-defined]
    try:
        yield
    finally:
        del np.float  # type: ignore[attr-defined]
