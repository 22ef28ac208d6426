"""Classification loss."""

from __future__ import annotations

import torch
from torch import Tensor

from ..arguments import require_number
from ..registry import LOSSES
from ..structures import Lesson
from .focal import focal_sums
from .term import LossTerm


@LOSSES.register()
class FocalLoss(LossTerm):
    """Sigmoid focal loss (RetinaNet) of all queries and classes; unassigned queries are background.

    Args:
        weight: factor.
        alpha: weight of positives, in [0, 1]; that of negatives is 1 - alpha.  0.5 with twice the
            ``weight`` treats both alike (torchvision's -1, which is refused here).
        gamma: how strongly easy predictions are weighted down, at least 0.
    """

    def __init__(self, weight: float, alpha: float = 0.25, gamma: float = 2.0):
        super().__init__(weight)
        require_number("alpha of FocalLoss", alpha, 0, 1)
        require_number("gamma of FocalLoss", gamma, 0)
        self.alpha, self.gamma = alpha, gamma

    def __call__(self, lesson: Lesson) -> Tensor:
        # Labelled cells as objects, and as the background that they are not.
        left_out_DP = lesson.elsewhere_DP | ~lesson.assignment.labelled_P
        cell_DP = label_logits(lesson).expand_as(left_out_DP)
        object_DP, taken_DP = (
            signed_DP.masked_fill(left_out_DP, -float("inf")) for signed_DP in (-cell_DP, cell_DP)
        )
        sums = focal_sums(torch.cat([object_DP, taken_DP]), self.gamma)
        object_D, taken_D = sums.chunk(2)
        loss_D = self.alpha * object_D
        background_D = background_sums(lesson, self.gamma) - taken_D
        return loss_D.add(background_D, alpha=1 - self.alpha) / lesson.assignment.normalizer


def label_logits(lesson: Lesson) -> Tensor:
    """Logits (P,) that the queries of all slots have for the class of the slot's object."""
    assignment = lesson.assignment
    label_P = lesson.targets.labels_G[assignment.target_P]
    return lesson.predictions.logits_BNK[assignment.image_P, assignment.query_P, label_P]


def background_sums(lesson: Lesson, gamma: float) -> Tensor:
    """Focal losses (layers,), without a weight, of calling everything background."""
    predictions = lesson.predictions
    logits = predictions.logits_BNK
    if predictions.counted_BN is not None:
        logits = logits.masked_fill(~predictions.counted_BN[..., None], -float("inf"))
    return focal_sums(logits.reshape(predictions.layers, -1), gamma)
