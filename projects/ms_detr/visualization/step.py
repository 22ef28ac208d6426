"""Where the time and the memory of a training step go, as bars."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

__all__ = ["save_step_profile"]

_TIME, _MEMORY = "#1f5fbf", "#e2661a"


def save_step_profile(
    rows: Sequence[tuple[str, float | None, float | None]],
    path: str | os.PathLike[str],
    *,
    title: str = "",
) -> Path:
    """Writes a PNG with two panels: milliseconds, and MiB of tensors, of every part of a step.

    Args:
        rows: part, milliseconds and MiB, in the order of the step; None: not measured.
        path: where to write; missing folders are made.
        title: a line above the panels.

    Returns:
        The path of the picture.

    Raises:
        ValueError: there is no part.
    """
    if not rows:
        raise ValueError("a profile of a step needs parts, and there is none; profile a step first")
    parts = [part for part, _, _ in rows]
    times = [time or 0.0 for _, time, _ in rows]
    figure = Figure(figsize=(12, 1.6 + 0.45 * len(rows)), dpi=110, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    total = sum(times)
    labels = [f"{time:.1f} ({time / total:.0%})" if total else "0" for time in times]
    _bars(left, parts, times, labels, _TIME, f"time: {total:.1f} ms")
    peaks = [memory or 0.0 for _, _, memory in rows]
    labels = ["" if memory is None else f"{memory:.1f}" for _, _, memory in rows]
    highest = max(peaks)
    _bars(
        right, parts, peaks, labels, _MEMORY,
        f"tensors beyond those before the step: {highest:.1f} MiB at most",
    )  # fmt: skip
    figure.suptitle(title, fontsize=13, fontweight="bold")
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    canvas.print_png(str(target))
    return target


def _bars(
    axes: Axes,
    parts: Sequence[str],
    values: Sequence[float],
    labels: Sequence[str],
    colour: str,
    title: str,
) -> None:
    bars = axes.barh(range(len(parts)), values, 0.7, color=colour)
    axes.bar_label(bars, labels, padding=4, fontsize=9)
    axes.set_yticks(range(len(parts)), parts)
    axes.set_ylim(len(parts) - 0.4, -0.6)  # the first part on top
    axes.set_title(title, fontsize=11, loc="left")
    axes.margins(x=0.2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(axis="x", color="#e4e4e4", linewidth=0.8)
