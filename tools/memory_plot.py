"""The picture of tools/benchmark_memory.py: memory over the iterations of a training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_LINES = ((1, "process", "#1f5fbf"), (2, "data workers", "#e2661a"))


def draw(path: Path, samples: Sequence[Sequence[float]]) -> None:
    """Write the picture of samples (iteration, MiB of the process, MiB of its workers)."""
    figure = Figure(figsize=(9, 4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for column, label, colour in _LINES:
        axes.plot(
            [row[0] for row in samples], [row[column] for row in samples], colour, label=label
        )
    axes.set_ylim(0)
    axes.set_xlabel("iteration")
    axes.set_ylabel("MiB")
    axes.grid(color="#e4e4e4", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
