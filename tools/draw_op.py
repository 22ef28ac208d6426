"""Draw what one query and head reads, for docs/op.md.

    python tools/draw_op.py docs/op.jpg

The places and weights are computed as the operator does; the number in the last panel is its
output.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ms_detr.ops import fused_deform_attn

SHAPES = ((6, 8), (3, 4))
REFERENCE = (0.53, 0.47)
OFFSETS = (((0.95, -0.85), (-1.7, 0.9)), ((0.9, 0.4), (-0.6, -0.7)))  # per level and point
LOGITS = (0.9, -0.2, 0.4, -0.6)
INK, ACCENT, FRAME = "#1f2937", "#e2661a", "#1f5fbf"
BACK = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1.5}


def numbers() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, float]:
    """Feature maps as (S,), locations (L, Z, 2), weights (L, Z), output of the operator."""
    generator = torch.Generator().manual_seed(3)
    value = torch.rand(sum(h * w for h, w in SHAPES), generator=generator)
    reference, offsets = torch.tensor(REFERENCE), torch.tensor(OFFSETS)
    logits = torch.tensor(LOGITS)
    output = fused_deform_attn(
        value.view(1, -1, 1, 1),
        SHAPES,
        reference.expand(1, 1, len(SHAPES), 2),
        offsets[None, None, None],
        logits[None, None, None],
    )
    cells = torch.tensor([(w, h) for h, w in SHAPES])
    locations = reference + offsets / cells[:, None]
    return value, locations, logits.softmax(0).view(offsets.shape[:2]), output.item()


def draw_level(axes: Axes, level: int, image: torch.Tensor, places, weights) -> None:
    """One map with the reference and its points, in units of cells."""
    height, width = image.shape
    axes.imshow(image, cmap="Blues", vmin=-0.3, vmax=1.6, extent=(0, width, height, 0))
    axes.set(xticks=range(width + 1), yticks=range(height + 1), title=f"level {level}")
    axes.grid(color="white", linewidth=1)
    axes.tick_params(length=0, labelbottom=False, labelleft=False)
    x, y = REFERENCE[0] * width, REFERENCE[1] * height
    for place, weight in zip(places, weights):
        px, py = place[0] * width, place[1] * height
        left, top = (px - 0.5).floor() + 0.5, (py - 0.5).floor() + 0.5
        axes.add_patch(Rectangle((left, top), 1, 1, fill=False, edgecolor=FRAME, linewidth=1.6))
        axes.annotate("", (px, py), (x, y), arrowprops={"arrowstyle": "->", "color": INK})
        axes.scatter(px, py, s=900 * weight, color=ACCENT, edgecolor="white", zorder=3)
        axes.text(px, py - 0.38, f"{weight:.2f}", ha="center", weight="bold", bbox=BACK)
    axes.scatter(x, y, marker="+", s=160, color=INK, linewidth=2.4, zorder=4)


def draw_corners(axes: Axes, image: torch.Tensor, place: Sequence[float], weight: float) -> None:
    """The four pixels of one point with their bilinear shares."""
    height, width = image.shape
    x, y = place[0] * width - 0.5, place[1] * height - 0.5
    left, top = int(x.floor()), int(y.floor())
    total = 0.0
    for dy in (0, 1):
        for dx in (0, 1):
            share = float((1 - (x - left - dx).abs()) * (1 - (y - top - dy).abs()))
            pixel = float(image[top + dy, left + dx])
            total += share * pixel
            axes.scatter(dx, dy, s=2600, color=FRAME, alpha=0.15 + 0.6 * share)
            axes.text(dx, dy, f"{pixel:.2f}\nx {share:.2f}", ha="center", va="center", size=10)
    axes.add_patch(Rectangle((0, 0), 1, 1, fill=False, edgecolor=FRAME, linewidth=1.6, zorder=0))
    axes.scatter(x - left, y - top, s=260, color=ACCENT, edgecolor="white", zorder=3)
    axes.set(xlim=(-0.45, 1.45), ylim=(1.45, -0.45), xticks=[], yticks=[], aspect="equal")
    axes.set_title(f"one point: {total:.3f}, counted {weight:.2f} times")


def draw() -> Figure:
    """The whole picture."""
    value, locations, weights, output = numbers()
    figure = Figure(figsize=(12.5, 3.9), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 3, width_ratios=(1.35, 1.35, 1))
    maps = value.split([h * w for h, w in SHAPES])
    images = [m.view(shape) for m, shape in zip(maps, SHAPES)]
    for level, axes in enumerate(panels[:2]):
        draw_level(axes, level, images[level], locations[level], weights[level])
    draw_corners(panels[2], images[0], locations[0, 0], weights[0, 0])
    figure.suptitle(
        "cross: reference; arrows: offsets, in cells of each level; orange: weights, softmax over "
        f"both levels.  Output of this query and head: {output:.3f}",
        fontsize=11,
    )
    return figure


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, help="picture to write, e.g. docs/op.jpg")
    output = parser.parse_args(arguments).output
    output.parent.mkdir(parents=True, exist_ok=True)
    draw().savefig(output)
    print(f"wrote {output}")


if __name__ == "__main__":
    main()
