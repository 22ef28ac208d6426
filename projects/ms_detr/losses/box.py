"""Box losses, over the assigned pairs."""

from __future__ import annotations

from torch import Tensor

from ..overlap import corners_of, generalized_iou
from ..registry import LOSSES
from ..structures import Lesson
from .term import LossTerm


@LOSSES.register()
class L1Loss(LossTerm):
    """Absolute differences of (cx, cy, w, h), summed over the pairs."""

    def __call__(self, lesson: Lesson) -> Tensor:
        predicted, true = lesson.boxes_2P4
        return lesson.mean_by_layer((predicted - true).abs().sum(1))


@LOSSES.register()
class GIoULoss(LossTerm):
    """1 - generalised IoU, summed over the pairs."""

    def __call__(self, lesson: Lesson) -> Tensor:
        # True boxes have an area (the data checks see to it): the division needs no guard.
        return lesson.mean_by_layer(1 - generalized_iou(*corners_of(lesson.boxes_2P4).unbind(1)))
