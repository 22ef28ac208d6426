"""Draw what the three one-to-many assigners make of the same queries and objects.

    python tools/draw_assigners.py docs/assigners.jpg

Three objects, two of which overlap, and six predicted boxes. Scores and pairs are computed by the
assigners themselves.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import torch

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.patches import Patch, Rectangle

from ms_detr.assigners import (
    AllPairsTopKAssigner,
    BestObjectTopKAssigner,
    ReleasedTopKAssigner,
    TopKAssigner,
)
from ms_detr.structures import LayerPredictions, Targets

K = 3
OBJECTS = ((0.36, 0.60, 0.48, 0.56), (0.58, 0.48, 0.52, 0.60), (0.15, 0.16, 0.20, 0.20))
COLOURS = ("#c2410c", "#1d4ed8", "#15803d")
# Box (cx, cy, w, h) of every query, and the probability of the only class.
QUERIES = (
    (0.48, 0.58, 0.50, 0.61, 0.74),
    (0.36, 0.60, 0.53, 0.56, 0.36),
    (0.48, 0.52, 0.54, 0.59, 0.38),
    (0.45, 0.57, 0.42, 0.58, 0.43),
    (0.43, 0.55, 0.49, 0.59, 0.52),
    (0.20, 0.24, 0.24, 0.27, 0.12),
)
PANELS = (
    ("Text of the supplement", BestObjectTopKAssigner(k=K)),
    ("Algorithm 1", AllPairsTopKAssigner(k=K)),
    # A quarter of six queries would be one; the cap is not what the picture is about.
    ("Released code", ReleasedTopKAssigner(k=K, positive_fraction=1.0)),
)


def example() -> tuple[LayerPredictions, Targets]:
    """Queries and objects of the picture, one image."""
    rows = torch.tensor(QUERIES, dtype=torch.float64)
    objects = torch.tensor(OBJECTS, dtype=torch.float64)
    labels = torch.zeros(len(objects), dtype=torch.int64)
    targets = Targets(labels, objects, (len(objects),), torch.tensor(float(len(objects))))
    return LayerPredictions(rows[:, 4].logit()[None, :, None], rows[None, :, :4]), targets


def draw_box(axes: Axes, box: Sequence[float], **style: object) -> None:
    cx, cy, w, h = box
    axes.add_patch(Rectangle((cx - w / 2, cy - h / 2), w, h, **style))


def draw_query(axes: Axes, number: int) -> None:
    """The objects, filled, and one query's box."""
    for name, box, colour in zip("ABC", OBJECTS, COLOURS):
        draw_box(axes, box, facecolor=colour, alpha=0.30)
        draw_box(axes, box, fill=False, edgecolor=colour, linewidth=1)
        x, y = {"A": (0.15, 0.82), "B": (0.795, 0.235), "C": (0.17, 0.19)}[name]
        axes.text(x, y, name, color=colour, ha="center", va="center", weight="bold", size=10)
    *box, probability = QUERIES[number]
    draw_box(axes, box, fill=False, edgecolor="black", linewidth=2.2, linestyle="--")
    axes.set(xlim=(0, 1), ylim=(1, 0), aspect="equal", xticks=[], yticks=[])
    axes.set_title(f"query {number}\nclass {probability:.2f}", fontsize=11)


def draw_table(axes: Axes, title: str, assigner: TopKAssigner) -> None:
    """Scores of all pairs, one row per object; the assigner's pairs are filled."""
    predictions, targets = example()
    scores = assigner.scores(predictions, targets).tolist()
    found = assigner(predictions, targets)
    pairs = {
        (g, q): labelled
        for g, q, valid, labelled in zip(
            *(getattr(found, f"{x}_P").tolist() for x in ("target", "query", "valid", "labelled"))
        )
        if valid
    }
    for g, row in enumerate(scores):
        for q, score in enumerate(row):
            taken = (g, q) in pairs
            face = COLOURS[g] if taken else "white"
            hatch = "////" if taken and not pairs[g, q] else None
            edge = "#fde68a" if hatch else "#9ca3af"
            axes.add_patch(
                Rectangle((q, g), 1, 1, facecolor=face, edgecolor=edge, hatch=hatch, linewidth=0.8)
            )
            ink = "black" if score >= assigner.threshold else "#9ca3af"
            back = {"facecolor": face, "edgecolor": "none", "pad": 2.5} if hatch else None
            axes.text(
                q + 0.5, g + 0.5, f"{score:.2f}", ha="center", va="center", bbox=back,
                fontsize=13, color="white" if taken else ink, weight="bold" if taken else "normal",
            )  # fmt: skip
    axes.set(xlim=(0, len(QUERIES)), ylim=(len(OBJECTS), 0), xticks=[])
    axes.set_yticks([g + 0.5 for g in range(len(OBJECTS))], [f"object {x}" for x in "ABC"])
    for label, colour in zip(axes.get_yticklabels(), COLOURS):
        label.set(color=colour, fontsize=12, fontweight="bold")
    axes.tick_params(length=0)
    axes.set_title(f"{title}: {type(assigner).__name__}", loc="left", fontsize=13, weight="bold")


def draw() -> pyplot.Figure:
    """The whole picture."""
    figure = pyplot.figure(figsize=(11, 9.4), dpi=110)
    grid = figure.add_gridspec(
        4, len(QUERIES), height_ratios=(1.12, 1, 1, 1), hspace=0.32, wspace=0.08,
        left=0.1, right=0.985, top=0.945, bottom=0.075,
    )  # fmt: skip
    for number in range(len(QUERIES)):
        draw_query(figure.add_subplot(grid[0, number]), number)
    for row, (title, assigner) in enumerate(PANELS, start=1):
        draw_table(figure.add_subplot(grid[row, :]), title, assigner)
    legend = [
        Patch(facecolor="#6b7280", label="pair: the query learns box and class"),
        Patch(facecolor="#6b7280", hatch="////", edgecolor="#fde68a", label="pair: box only"),
        Patch(facecolor="white", edgecolor="#9ca3af", label="no pair; grey below the threshold"),
    ]
    figure.legend(handles=legend, loc="lower center", ncols=3, fontsize=11, frameon=False)
    return figure


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, help="picture to write, e.g. docs/assigners.jpg")
    output = parser.parse_args(arguments).output
    output.parent.mkdir(parents=True, exist_ok=True)
    draw().savefig(output)
    print(f"wrote {output}")


if __name__ == "__main__":
    main()
