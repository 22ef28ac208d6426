"""Mixtures of two Gaussians over rows of numbers, fitted by expectation maximisation.

All rows are fitted at once, each until it stands still by itself, so a row's result does not depend
on the others.  Start, regularisation and end are those of the published assignment, which takes
them from scikit-learn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_ROUNDS = 100  # at most
_STILL = 1e-3  # change of the mean log-likelihood at which a row has come to rest
_FLOOR = 1e-6  # added to variances, so that equal values leave one
_LEAST = 10 * torch.finfo(torch.float64).eps  # added to the weight of a component that lost all


@dataclass(frozen=True)
class TwoGaussians:
    """A mixture for each of R rows; the first component is the one that started from the least.

    Attributes:
        weight_R12, mean_R12, variance_R12: of both components, float64.
    """

    weight_R12: Tensor
    mean_R12: Tensor
    variance_R12: Tensor

    @classmethod
    def between_extremes(cls, values_RN: Tensor, present_RN: Tensor) -> TwoGaussians:
        """Where the fit starts: means at the least and the largest value, all else equal."""
        ends = (
            values_RN.masked_fill(~present_RN, math.inf).amin(1),
            values_RN.masked_fill(~present_RN, -math.inf).amax(1),
        )
        mean_R12 = torch.stack(ends, 1)[:, None]
        mean_R12 = mean_R12.masked_fill(~present_RN.any(1)[:, None, None], 0.0)
        return cls(torch.full_like(mean_R12, 0.5), mean_R12, torch.ones_like(mean_R12))

    @classmethod
    def of_shares(cls, values_RN: Tensor, share_RN2: Tensor) -> TwoGaussians:
        """The mixture that is most likely, given which share of a value each component has."""
        values_RN1 = values_RN[..., None]
        total_R12 = share_RN2.sum(1, keepdim=True) + _LEAST
        mean_R12 = (share_RN2 * values_RN1).sum(1, keepdim=True) / total_R12
        squares_RN2 = share_RN2 * (values_RN1 - mean_R12).square()
        return cls(
            weight_R12=total_R12 / total_R12.sum(2, keepdim=True),
            mean_R12=mean_R12,
            variance_R12=squares_RN2.sum(1, keepdim=True) / total_R12 + _FLOOR,
        )

    def log_densities(self, values_RN: Tensor) -> Tensor:
        """Logarithms (R, N, 2) of weight times density of both components."""
        distance_RN2 = (values_RN[..., None] - self.mean_R12).square() / self.variance_R12
        scale_R12 = self.weight_R12.log() - (2 * math.pi * self.variance_R12).log() / 2
        return scale_R12 - distance_RN2 / 2

    def where(self, chosen_R: Tensor, other: TwoGaussians) -> TwoGaussians:
        """These mixtures for the chosen rows, others for the rest."""
        chosen_R11 = chosen_R[:, None, None]
        return TwoGaussians(
            self.weight_R12.where(chosen_R11, other.weight_R12),
            self.mean_R12.where(chosen_R11, other.mean_R12),
            self.variance_R12.where(chosen_R11, other.variance_R12),
        )


def fit_two_gaussians(values_RN: Tensor, present_RN: Tensor) -> TwoGaussians:
    """The mixtures of rows of numbers; that of a row without any says nothing.

    Args:
        values_RN: the numbers.
        present_RN: False where there is none; what stands in its place must be finite.
    """
    values_RN = values_RN.double()
    count_R = present_RN.sum(1).clamp(min=1)
    mixture = TwoGaussians.between_extremes(values_RN, present_RN)
    likelihood_R = torch.full_like(values_RN[:, 0], -math.inf)
    moving_R = torch.ones_like(count_R, dtype=torch.bool)
    for _ in range(_ROUNDS):
        joint_RN2 = mixture.log_densities(values_RN)
        share_RN2 = joint_RN2.softmax(2) * present_RN[..., None]
        next_one = TwoGaussians.of_shares(values_RN, share_RN2)
        mixture = next_one.where(moving_R, mixture)
        log_RN = joint_RN2.logsumexp(2).masked_fill(~present_RN, 0.0)
        previous_R, likelihood_R = likelihood_R, log_RN.sum(1) / count_R
        # A row that is not finite is never still; one that came to rest stays so.
        moving_R = moving_R & ~((likelihood_R - previous_R).abs() < _STILL)
        if not moving_R.any():
            break
    return mixture


def likely_small(values_RN: Tensor, present_RN: Tensor) -> Tensor:
    """Which values (R, N) are small: the lower component's, up to its most likely member (PAA).

    A value is the component's that makes it more likely.  Equal values are treated alike.  That is
    the separation (c) of the paper's figure 3, as in the published code.  A row with values that
    are not finite is small as a whole, so that they come to light where the small ones are used.

    Args:
        values_RN: losses.
        present_RN: False where there is none; never small.
    """
    values_RN = values_RN.masked_fill(~present_RN, 0.0)
    joint_RN2 = fit_two_gaussians(values_RN, present_RN).log_densities(values_RN.double())
    lower_RN = present_RN & ~(joint_RN2[..., 0] < joint_RN2[..., 1])
    density_RN = joint_RN2.logsumexp(2).masked_fill(~lower_RN, -math.inf)
    best_RN = lower_RN & (density_RN == density_RN.amax(1, keepdim=True))
    limit_R1 = values_RN.masked_fill(~best_RN, math.inf).amin(1, keepdim=True)
    return lower_RN & ~(values_RN > limit_R1)
