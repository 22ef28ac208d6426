"""The interface of loss terms."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from ..arguments import require_kind, require_number
from ..structures import Lesson


class LossTerm:
    """One number that says how wrong predictions are, given who answers what.

    Args:
        weight: factor of the term in the objective, at least 0.
    """

    def __init__(self, weight: float):
        require_number(f"weight of {type(self).__name__}", weight, 0)
        self.weight = weight

    def __call__(self, lesson: Lesson) -> Tensor:
        """Unweighted loss (layers,) of every layer, divided by the assignment's normaliser."""
        raise NotImplementedError


class LossTerms:
    """Loss terms by name: ``LossTerms(l1=L1Loss(5.0), giou=GIoULoss(2.0))``."""

    def __init__(self, **terms: LossTerm):
        if not terms:
            raise ValueError("LossTerms needs at least one term")
        for name, term in terms.items():
            mend = f"delete it with '~...terms.{name}', or give its weight: terms.{name}.weight=1"
            require_kind(f"term {name}", term, LossTerm, mend)
        self.terms = terms

    def __iter__(self) -> Iterator[tuple[str, LossTerm]]:
        return iter(self.terms.items())
