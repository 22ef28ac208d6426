"""The picture of tools/benchmark_op.py: time against queries, image size and threads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

_COLOURS = {
    "official grid_sample": "#8a8a8a",
    "embedding_bag": "#c7a008",
    "our PyTorch": "#1f5fbf",
    "ours": "#e2661a",
}
_LABELS = {
    "queries": "queries of a decoder, two 800x1066 images",
    "image size": "shorter side of the image, encoder, one image",
    "threads": "threads, encoder, one 512x682 image",
}
Curves = Mapping[str, Mapping[str, Sequence[tuple[float, float]]]]


def draw(path: Path, curves: Curves, title: str) -> None:
    """Write the picture.

    Args:
        path: of the .png file.
        curves: panel -> arm -> (x, milliseconds), as the job ``curves`` of op_jobs.py gives them.
        title: conditions of the measurement.
    """
    figure = Figure(figsize=(13, 4.6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (panel, arms) in zip(figure.subplots(1, len(curves), sharey=False), curves.items()):
        places: set[float] = set()
        for name, points in arms.items():
            x, y = zip(*points)
            places.update(x)
            axes.plot(x, y, marker="o", color=_COLOURS[name], linewidth=2, label=name)
        axes.set(xlabel=_LABELS[panel], yscale="log")
        if panel != "threads":
            axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(sorted(places)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.grid(True, which="major", color="#dddddd")
        axes.spines[["top", "right"]].set_visible(False)
    first = figure.axes[0]
    first.set_ylabel("milliseconds, forward")
    figure.legend(
        *first.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False
    )
    figure.suptitle(title, fontsize=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
