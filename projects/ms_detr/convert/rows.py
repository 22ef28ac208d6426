"""Rows of class heads and query embeddings that only one side has."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES
from torch import Tensor

from .errors import CheckpointError

# The official class heads have a row for every number up to COCO's largest category id.
OFFICIAL_COCO_CLASSES = 91
# Bias of a row that nothing has trained: its probability is 4e-44, below any that a model gives.
SILENT = -100.0


@cache
def coco_category_ids() -> tuple[int, ...]:
    """COCO's 80 category ids, in the order of our contiguous classes."""
    return tuple(entry["id"] for entry in COCO_CATEGORIES if entry["isthing"])


@dataclass(frozen=True)
class RowSelection:
    """Which rows of an official tensor are the rows of ours, in which order.

    Attributes:
        kept: for each of our rows its official one.
        total: number of official rows.
    """

    kept: tuple[int, ...]
    total: int

    @property
    def others(self) -> list[int]:
        """Official rows that ours does not have, ascending."""
        return sorted(set(range(self.total)) - set(self.kept))

    def split(self, theirs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Our rows, and the rows left (None if there are none); both are copies."""
        rest = theirs[self.others].clone() if self.others else None
        return theirs[list(self.kept)].clone(), rest

    def join(self, ours: Tensor, rest: Tensor | None, key: str) -> Tensor:
        """The official tensor of our rows and the rows left.

        Rows of a class head that nobody has are filled so that they never score: weight 0, bias
        :data:`SILENT`.

        Raises:
            CheckpointError: the rows left do not fit.
        """
        others = self.others
        if rest is None:
            rest = ours.new_full(
                (len(others), *ours.shape[1:]), SILENT if key.endswith(".bias") else 0.0
            )
        if rest.shape != (len(others), *ours.shape[1:]):
            raise CheckpointError(
                f"{key}: the rows that were set aside have shape {tuple(rest.shape)}, but "
                f"{(len(others), *ours.shape[1:])} fit the model; convert without them"
            )
        whole = ours.new_empty((self.total, *ours.shape[1:]))
        whole[list(self.kept)] = ours
        whole[others] = rest.to(ours)
        return whole


def class_rows(total: int, classes: str) -> RowSelection:
    """Rows of an official class head with ``total`` outputs: COCO's 80 of 91, or all."""
    if classes == "coco" and total == OFFICIAL_COCO_CLASSES:
        return RowSelection(coco_category_ids(), total)
    return RowSelection(tuple(range(total)), total)


def official_class_count(ours: int, classes: str) -> int:
    """Outputs of the official class head for ours."""
    coco = classes == "coco" and ours == len(coco_category_ids())
    return OFFICIAL_COCO_CLASSES if coco else ours


def first_rows(kept: int, total: int) -> RowSelection:
    """The first rows only."""
    return RowSelection(tuple(range(kept)), total)


def count_trained_rows(weight: Tensor, bias: Tensor) -> int:
    """Rows of a class head up to the last that was not filled by :meth:`RowSelection.join`."""
    filled = (weight == 0).all(1) & (bias == SILENT)
    trained = torch.nonzero(~filled)
    return max(int(trained[-1]) + 1 if len(trained) else 0, 1)
