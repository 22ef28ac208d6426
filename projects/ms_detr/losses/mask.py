"""Mask losses of matched pairs, on sampled points."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ..arguments import require_number
from ..registry import LOSSES
from .points import MaskSamples


class MaskTerm:
    """One number that says how wrong masks are.

    Args:
        weight: factor of the term in the objective, at least 0.
    """

    def __init__(self, weight: float):
        require_number(f"weight of {type(self).__name__}", weight, 0)
        self.weight = weight

    def __call__(self, samples: MaskSamples) -> Tensor:
        """Unweighted loss, a scalar, divided by ``samples.normalizer``."""
        raise NotImplementedError


@LOSSES.register()
class MaskCrossEntropy(MaskTerm):
    """Binary cross-entropy, averaged over the points and summed over the pairs."""

    def __call__(self, samples: MaskSamples) -> Tensor:
        loss_PR = F.binary_cross_entropy_with_logits(
            samples.logits_PR, samples.truth_PR, reduction="none"
        )
        return loss_PR.mean(1).sum() / samples.normalizer


@LOSSES.register()
class MaskDice(MaskTerm):
    """1 - Dice coefficient (V-Net), in [0, 1), summed over the pairs.

    Numerator and denominator are one larger, as in DETR: an empty mask can be right.
    """

    def __call__(self, samples: MaskSamples) -> Tensor:
        probability_PR = samples.logits_PR.sigmoid()
        both_P = (probability_PR * samples.truth_PR).sum(1)
        sizes_P = probability_PR.sum(1) + samples.truth_PR.sum(1)
        return (1 - (2 * both_P + 1) / (sizes_P + 1)).sum() / samples.normalizer
