"""Differences are measured and told; nothing that is NaN passes."""

import math

import numpy as np
import torch

from ms_detr.parity import Row, table
from ms_detr.parity.compare import largest_difference, relative, share


def test_differences_are_shares_of_the_recorded_values():
    theirs = np.array([1.0, -50.0])
    assert largest_difference(torch.tensor([1.5, -50.0], dtype=torch.float64), theirs) == 0.01
    assert largest_difference(torch.tensor([0.5]), np.array([0.25])) == 0.25
    assert relative(3.0, 2.0) == 0.5 and relative(-0.5, 0.0) == 0.5
    assert share(1e-3, 0.0) == 1e-3


def test_other_shapes_and_nan_are_infinitely_different():
    theirs = np.zeros(3)
    assert largest_difference(torch.zeros(2), theirs) == math.inf
    assert largest_difference(torch.tensor([0.0, math.nan, 0.0]), theirs) == math.inf
    assert relative(math.nan, 1.0) == share(math.nan, 0.0) == math.inf
    assert largest_difference(torch.zeros(0), np.zeros(0)) == 0.0


def test_table_marks_what_is_over_and_where():
    rows = [
        Row("a", "f64", "boxes", 1e-12, 1e-9),
        Row("a", "f64", "losses", 2e-9, 1e-9, "relative", "mixed/3/giou"),
    ]
    header, good, bad = table(rows).splitlines()
    assert good.endswith("ok") and rows[0].passed
    assert bad.split()[-2:] == ["OVER", "mixed/3/giou"] and not rows[1].passed
    assert header.index("tolerance") == good.index("1.0e-09")
