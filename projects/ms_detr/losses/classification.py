"""Classification loss."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from ..arguments import require_number
from ..registry import LOSSES
from ..structures import Assignment, LayerPredictions, Targets
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

    def __call__(
        self, predictions: LayerPredictions, targets: Targets, assignment: Assignment
    ) -> Tensor:
        logits = predictions.logits_BNK
        cells = (assignment.image_P, assignment.query_P, targets.labels_G[assignment.target_P])
        # Adding counts what writing would lose: another pair may name the same query and class.
        truth = torch.zeros_like(logits)
        truth.index_put_(cells, assignment.labelled_P.to(logits.dtype), accumulate=True)
        loss_BNK = sigmoid_focal_loss(logits, truth, self.alpha, self.gamma)
        if predictions.counted_BN is not None:
            loss_BNK = loss_BNK.masked_fill(~predictions.counted_BN[..., None], 0.0)
        return loss_BNK.sum() / assignment.normalizer
