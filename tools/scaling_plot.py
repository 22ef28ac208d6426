"""The picture of tools/benchmark_scaling.py: time and memory in log-log coordinates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_COLOURS = {"step": "#1f5fbf", "inference": "#e2661a"}
_UNITS = {"time": "ms", "memory": "MiB"}


def draw(
    path: Path,
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    exponents: Mapping[str, float | None],
    title: str,
) -> None:
    """Write the picture: a row per variable, a column for time and one for memory.

    Args:
        path: of the .png file.
        curves: x and y by "WORK, WHAT against X".
        exponents: by the same names, for the legend.
        title: conditions of the measurement.
    """
    labels = list(dict.fromkeys(name.partition(" against ")[2] for name in curves))
    figure = Figure(figsize=(11, 0.6 + 3.1 * len(labels)), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(labels), 2, squeeze=False)
    for name, (x, y) in curves.items():
        work, _, rest = name.partition(", ")
        what, _, label = rest.partition(" against ")
        axes = panels[labels.index(label)][list(_UNITS).index(what)]
        slope = f"{work}, exponent {exponents[name]:.2f}"
        axes.loglog(x, y, color=_COLOURS[work], marker="o", markersize=4, label=slope)
        axes.set_title(f"{what} in {_UNITS[what]} against {label}", fontsize=10, loc="left")
        axes.grid(color="#e4e4e4", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=9)
    figure.suptitle(title, fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
