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
        assignment, cells = lesson.assignment, label_cells(lesson)
        object_DP = -lesson.predictions.logits_BNK[cells].expand_as(lesson.elsewhere_DP)
        object_DP = object_DP.masked_fill(
            lesson.elsewhere_DP | ~assignment.labelled_P, -float("inf")
        )
        loss_D = self.alpha * focal_sums(object_DP, self.gamma)
        loss_D = loss_D.add(background_sums(lesson, cells, self.gamma), alpha=1 - self.alpha)
        return loss_D / assignment.normalizer


Cells = tuple[Tensor, Tensor, Tensor]


def label_cells(lesson: Lesson) -> Cells:
    """Image, query and class of every slot: indices into the logits."""
    assignment = lesson.assignment
    return assignment.image_P, assignment.query_P, lesson.targets.labels_G[assignment.target_P]


def background_sums(lesson: Lesson, cells: Cells, gamma: float) -> Tensor:
    """Focal losses (layers,) of everything but the classes of labelled pairs, without a weight.

    Args:
        lesson: who is taught what.
        cells: of :func:`label_cells`.
        gamma: at least 0.
    """
    predictions, labelled_P = lesson.predictions, lesson.assignment.labelled_P
    logits, nothing = predictions.logits_BNK, -float("inf")
    # Adding takes the labelled pairs away from the background; writing could not, for another
    # slot may name the same query and class.
    taken_P = torch.full_like(labelled_P, nothing, dtype=logits.dtype)
    taken_P = taken_P.masked_fill(~labelled_P, 0.0)
    background = logits.index_put(cells, taken_P, accumulate=True)
    if predictions.counted_BN is not None:
        background = background.masked_fill(~predictions.counted_BN[..., None], nothing)
    return focal_sums(background.reshape(predictions.layers, -1), gamma)
