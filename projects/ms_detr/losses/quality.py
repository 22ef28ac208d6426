"""Classification loss whose target is how well the box fits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..arguments import require_number
from ..overlap import corners_of, intersection_over_union
from ..registry import LOSSES
from ..structures import Lesson
from .classification import background_sums, label_logits
from .term import LossTerm


@LOSSES.register()
class QualityFocalLoss(LossTerm):
    """Quality focal loss (GFL, equation 2): a query's score learns the IoU of its box.

    The target y of a labelled pair is the IoU of its predicted with its true box, without gradient;
    of everything else it is 0.  A score s loses |y - s| ** beta times the binary cross-entropy of
    s and y.  A query that answers several objects learns the IoU with the one that labels it.

    There is no alpha: both sides weigh the same, hence the weight of Co-DINO's released configs is
    1.0 (beta 2.0) where the focal loss with alpha 0.25 has 2.0; weights of the box losses stay.
    Published and here, the sum is divided by the number of objects, as the focal loss is.
    Co-DINO has it in the place of the focal loss everywhere: for matched and denoising queries,
    proposals, and the queries of auxiliary heads.  In a config, for each of them::

        model.supervisions.one_to_one.terms["class"] = L(QualityFocalLoss)(weight=1.0)

    Args:
        weight: factor.
        beta: how strongly scores close to their target are weighted down, at least 1: below, the
            gradient would be infinite where score and target are equal.
    """

    def __init__(self, weight: float, beta: float = 2.0):
        super().__init__(weight)
        require_number("beta of QualityFocalLoss", beta, 1)
        self.beta = beta

    def __call__(self, lesson: Lesson) -> Tensor:
        unlabelled_P = ~lesson.assignment.labelled_P
        # Logits of other slots may be anything: zeros in their place have a finite gradient.
        logits_P = label_logits(lesson).masked_fill(unlabelled_P, 0.0)
        quality_P = pair_overlaps(lesson)
        # In the place of what labelled pairs would lose as background, like everything else.
        loss_P = quality_losses(logits_P, quality_P, self.beta)
        loss_P = loss_P - quality_losses(logits_P, torch.zeros_like(quality_P), self.beta)
        background_D = background_sums(lesson, self.beta) / lesson.assignment.normalizer
        return lesson.mean_by_layer(loss_P.masked_fill(unlabelled_P, 0.0)) + background_D


def quality_losses(logits_P: Tensor, quality_P: Tensor, beta: float) -> Tensor:
    """Quality focal loss (P,) of single scores.

    Args:
        logits_P: the scores.
        quality_P: what they learn, in [0, 1], without gradient.
        beta: at least 1.
    """
    quality_P = quality_P.to(logits_P.dtype)
    entropy_P = F.binary_cross_entropy_with_logits(logits_P, quality_P, reduction="none")
    return (quality_P - logits_P.sigmoid()).abs().pow(beta) * entropy_P


def pair_overlaps(lesson: Lesson) -> Tensor:
    """IoU (P,) of the predicted with the true box of every slot, in [0, 1]; no gradient."""
    # Detached here: the lesson keeps its boxes for the terms that do want their gradient.
    return intersection_over_union(*corners_of(lesson.boxes_2P4.detach()).unbind(1))
