"""Draw what the three one-to-many assigners make of the same queries and objects.

    python tools/draw_assigners.py docs/assigners.jpg

Two overlapping objects and six predicted boxes; scores are those of the assigners themselves.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
import torch

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from ms_detr.assigners import (
    AllPairsTopKAssigner,
    BestObjectTopKAssigner,
    ReleasedTopKAssigner,
    TopKAssigner,
)
from ms_detr.structures import LayerPredictions, Targets

K, THRESHOLD = 3, 0.4
OBJECTS = torch.tensor([[0.36, 0.56, 0.52, 0.60], [0.56, 0.46, 0.56, 0.62]])
COLOURS = ("#c2410c", "#1d4ed8")
NAMES = ("A", "B")
# Box (cx, cy, w, h) and the probability of the one class there is.
QUERIES = (
    (0.37, 0.57, 0.50, 0.58, 0.80),
    (0.33, 0.59, 0.52, 0.52, 0.60),
    (0.46, 0.51, 0.54, 0.62, 0.75),
    (0.49, 0.49, 0.52, 0.60, 0.70),
    (0.68, 0.30, 0.34, 0.34, 0.35),
    (0.70, 0.46, 0.40, 0.40, 0.36),
)
PANELS: tuple[tuple[str, TopKAssigner], ...] = (
    ("supplement's text\nBestObjectTopKAssigner", BestObjectTopKAssigner(k=K)),
    ("Algorithm 1\nAllPairsTopKAssigner", AllPairsTopKAssigner(k=K)),
    ("released code\nReleasedTopKAssigner", ReleasedTopKAssigner(k=K, positive_fraction=1.0)),
)


def example() -> tuple[LayerPredictions, Targets]:
    """The queries and objects of the picture."""
    rows = torch.tensor(QUERIES, dtype=torch.float64)
    logits = rows[:, 4].logit()[None, :, None]
    targets = Targets(torch.zeros(2, dtype=torch.int64), OBJECTS.double(), (2,), torch.tensor(2.0))
    return LayerPredictions(logits, rows[None, :, :4]), targets


def draw_boxes(axes: Axes) -> None:
    """Objects filled, queries as outlines with their number in a corner of their own."""
    for (cx, cy, w, h), colour, name in zip(OBJECTS.tolist(), COLOURS, NAMES):
        corner = (cx - w / 2, cy - h / 2)
        axes.add_patch(Rectangle(corner, w, h, facecolor=colour, alpha=0.18))
        axes.add_patch(Rectangle(corner, w, h, fill=False, edgecolor=colour, linewidth=3))
        side, x = ("right", cx + w / 2) if name == "B" else ("left", cx - w / 2)
        y = cy - h / 2 if name == "B" else cy + h / 2
        axes.annotate(
            f"object {name}", (x, y), ha=side, va="bottom" if name == "B" else "top",
            xytext=(0, 4 if name == "B" else -4), textcoords="offset points",
            color=colour, fontsize=13, fontweight="bold",
        )  # fmt: skip
    axes.set(xlim=(0, 1), ylim=(0.97, 0.03), aspect="equal", xticks=[], yticks=[])
