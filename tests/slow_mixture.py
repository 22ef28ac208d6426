"""A mixture of two Gaussians over a list of numbers, number by number."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass
class Component:
    """One Gaussian and its weight."""

    weight: float
    mean: float
    variance: float

    def log_density(self, value: float) -> float:
        """Logarithm of weight times density."""
        distance = (value - self.mean) ** 2 / self.variance
        return math.log(self.weight) - 0.5 * (math.log(2 * math.pi * self.variance) + distance)


def log_of_sum(logs: list[float]) -> float:
    """The logarithm of a sum, given those of its parts."""
    largest = max(logs)
    return largest + math.log(sum(math.exp(log - largest) for log in logs))


def fit(values: list[float]) -> list[Component]:
    """Expectation maximisation from the extremes, until the likelihood is still."""
    mixture = [Component(0.5, min(values), 1.0), Component(0.5, max(values), 1.0)]
    before = -math.inf
    for _ in range(100):
        logs = [[one.log_density(value) for one in mixture] for value in values]
        shares = [[math.exp(log - log_of_sum(row)) for log in row] for row in logs]
        mixture = [component(values, [row[which] for row in shares]) for which in range(2)]
        likelihood = sum(log_of_sum(row) for row in logs) / len(values)
        if abs(likelihood - before) < 1e-3:
            break
        before = likelihood
    return mixture


def component(values: list[float], shares: list[float]) -> Component:
    """The Gaussian of values that it has some share of."""
    total = sum(shares)
    mean = sum(share * value for share, value in zip(shares, values)) / total
    variance = sum(share * (value - mean) ** 2 for share, value in zip(shares, values)) / total
    return Component(total / len(values), mean, variance + 1e-6)


def small_ones(values: list[float]) -> list[bool]:
    """Which are of the lower component and at most as large as its most likely member."""
    if len(set(values)) == 1:  # nothing parts them
        return [True] * len(values)
    lower, upper = fit(values)
    members = [value for value in values if lower.log_density(value) >= upper.log_density(value)]
    if not members:
        return [False] * len(values)

    def density(value: float) -> float:
        return log_of_sum([lower.log_density(value), upper.log_density(value)])

    best = max(density(value) for value in members)
    limit = min(value for value in members if density(value) == best)
    return [value in members and value <= limit for value in values]
