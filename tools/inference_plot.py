"""The picture of tools/benchmark_inference.py: milliseconds of an image, as bars."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarking import Figure as Number
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_OURS, _OTHERS = "#e2661a", "#8a8a8a"


def draw(path: Path, numbers: Sequence[Number], title: str) -> None:
    """Write the picture.

    Args:
        path: of the .png file.
        numbers: figures; those that are not about large pages and have times of one image or of a
            batch of one are drawn.
        title: conditions of the measurement.
    """
    times: dict[str, float] = {}
    for number in numbers:
        about_batch_one = "batch 1: unprepared / prepared" in number.name
        about_peers = " / ours, " in number.name and "large pages" not in number.name
        if about_batch_one or about_peers:
            for arm, value in number.arms.items():
                # Prepared, by dtype, has one name in both.
                times.setdefault(arm.removesuffix(" ms").removeprefix("ours "), value)
    figure = Figure(figsize=(9, 1.2 + 0.5 * len(times)), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    names = list(times)
    labels = [f"prepared, {name}" if "float" in name else name for name in names]
    colours = [_OURS if "float" in name else _OTHERS for name in names]
    bars = axes.barh(labels, list(times.values()), 0.6, color=colours)
    axes.bar_label(bars, fmt="%.0f", padding=3, fontsize=9)
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.set_xlabel("milliseconds an image")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title, fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
