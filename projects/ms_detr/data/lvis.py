"""What LVIS needs beside COCO: its package, and images drawn by the rarity of their classes."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

from detectron2.data import build_detection_train_loader
from detectron2.data.samplers import RepeatFactorTrainingSampler

from ..arguments import require_number
from .errors import DatasetError

__all__ = ["build_repeat_factor_loader", "require_lvis"]


def require_lvis() -> None:
    """Raises `DatasetError` that says how to install the package `lvis` if it is absent."""
    if importlib.util.find_spec("lvis") is None:
        raise DatasetError(
            "LVIS data are read and evaluated with the package lvis, which is not installed; "
            "mend: pip install --no-deps lvis (all that it needs is there; without --no-deps pip "
            "would put a second OpenCV over the one in use)"
        )


def build_repeat_factor_loader(
    dataset: list[dict],
    *,
    mapper: Callable[[dict], Any],
    total_batch_size: int,
    num_workers: int = 0,
    repeat_threshold: float = 0.001,
) -> Any:
    """detectron2's training loader, with images of rare classes drawn more often.

    An image is drawn max(1, sqrt(repeat_threshold / f)) times an epoch on average, where f is the
    share of images that hold the rarest of its classes.

    Args:
        dataset: detectron2's list of dictionaries.
        mapper: from a dictionary to what the model reads.
        total_batch_size: images an iteration, of all processes.
        num_workers: processes that read images.
        repeat_threshold: share of images below which a class counts as rare, in (0, 1].

    Raises:
        ValueError: `repeat_threshold` is out of its range.

    Source:
        Gupta et al., "LVIS: A Dataset for Large Vocabulary Instance Segmentation", 2019.
    """
    require_number("repeat_threshold", repeat_threshold, 0.0, 1.0, above=True)
    factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
        dataset, repeat_threshold
    )
    return build_detection_train_loader(
        dataset,
        mapper=mapper,
        sampler=RepeatFactorTrainingSampler(factors),
        total_batch_size=total_batch_size,
        num_workers=num_workers,
    )
