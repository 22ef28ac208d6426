"""Differences, tolerances, and the table of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor


@dataclass(frozen=True)
class Row:
    """One compared quantity.

    Attributes:
        case: name of the recorded case.
        precision: "f64" or "f32": what our side was computed in.
        quantity: what was compared.
        difference: the largest difference found; infinite where something is NaN.
        tolerance: the largest difference allowed.
        unit: what the difference is a share of.
        where: the entry with the largest difference, if it has a name.
    """

    case: str
    precision: str
    quantity: str
    difference: float
    tolerance: float
    unit: str = "of scale"
    where: str = ""

    @property
    def passed(self) -> bool:
        """Within the tolerance."""
        return self.difference <= self.tolerance


def largest_difference(ours: Tensor, theirs: np.ndarray) -> float:
    """max |ours - theirs| as a share of max |theirs|, at least 1; infinite if shapes differ."""
    found = ours.detach().double().cpu().numpy()
    if found.shape != theirs.shape:
        return math.inf
    if not theirs.size:
        return 0.0
    return share(np.abs(found - theirs).max(), max(1.0, np.abs(theirs).max()))


def relative(ours: float, theirs: float) -> float:
    """|ours - theirs| as a share of |theirs|; absolute where theirs is zero."""
    return share(abs(ours - theirs), abs(theirs))


def share(difference: float, of: float) -> float:
    """The difference as a share; itself if ``of`` is zero, infinite if it is NaN."""
    result = float(difference) / (float(of) or 1.0)
    return math.inf if math.isnan(result) else result


def table(rows: Sequence[Row]) -> str:
    """A readable table of rows, one a line."""
    header = ("case", "run", "quantity", "largest difference", "tolerance", "", "")
    lines = [header] + [
        (
            row.case,
            row.precision,
            row.quantity,
            f"{row.difference:.2e} {row.unit}",
            f"{row.tolerance:.1e}",
            "ok" if row.passed else "OVER",
            row.where if not row.passed else "",
        )
        for row in rows
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip() for line in lines
    )
