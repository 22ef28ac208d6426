"""The picture of tools/benchmark_step.py: time and memory of every model, as bars."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarking import Figure as Number
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_COLOURS = {"time of a step": "#1f5fbf", "peak memory": "#e2661a"}


def draw(path: Path, numbers: Sequence[Number], title: str) -> None:
    """Write the picture.

    Args:
        path: of the .png file.
        numbers: figures named "MODEL / BASE: QUANTITY"; others are passed over.
        title: conditions of the measurement.
    """
    numbers = [number for number in numbers if number.name.endswith(tuple(_COLOURS))]
    models = list(dict.fromkeys(number.name.partition(": ")[0] for number in numbers))
    figure = Figure(figsize=(9, 1.4 + 0.6 * len(models)), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for offset, (quantity, colour) in zip((-0.2, 0.2), _COLOURS.items()):
        values = {
            number.name.partition(": ")[0]: 100 * (number.value - 1)
            for number in numbers
            if number.name.endswith(quantity) and number.value is not None
        }
        places = [models.index(model) + offset for model in values]
        bars = axes.barh(places, list(values.values()), 0.36, color=colour, label=quantity)
        axes.bar_label(bars, fmt="%+.1f %%", padding=3, fontsize=9)
    axes.set_yticks(range(len(models)), models)
    axes.invert_yaxis()
    axes.axvline(0, color="black", linewidth=1)
    axes.margins(x=0.15)
    axes.set_xlabel("percent more than the base")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    axes.set_title(title, fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
