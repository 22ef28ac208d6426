"""How often the classes of a data set occur, as a picture."""

from __future__ import annotations

import os
from collections.abc import Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..data.statistics import ClassCount

__all__ = ["save_class_histogram"]

_BAR_COLOUR = "#3b7dd8"
_MOST_CLASSES = 80
_LOGARITHMIC_FROM = 100  # times that the commonest class has more objects than the rarest


def save_class_histogram(
    classes: Sequence[ClassCount], path: str | os.PathLike[str], *, title: str = ""
) -> None:
    """Draws a bar for every class, the commonest first, with its number of objects.

    Args:
        classes: at least one; of more than 80 the commonest are drawn, and the title says so.
        path: of the picture; its ending says the format.
        title: above the bars.

    Raises:
        ValueError: there is no class.
    """
    if not classes:
        raise ValueError("there is no class to draw; add categories to the json")
    ranked = sorted(classes, key=lambda item: -item.objects)
    shown = ranked[:_MOST_CLASSES]
    if len(shown) < len(ranked):
        title = f"{title}: the commonest {len(shown)} of {len(ranked)} classes".lstrip(": ")
    figure = Figure(figsize=(8, 1.2 + 0.24 * len(shown)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    counts = [item.objects for item in shown]
    bars = axes.barh(range(len(shown)), counts, color=_BAR_COLOUR, height=0.7)
    axes.bar_label(bars, [f"{count:,}" for count in counts], padding=3, fontsize=8)
    # the name of a class is shown as it is: "$" starts no formula
    names = [item.name.replace("$", r"\$") for item in shown]
    axes.set_yticks(range(len(shown)), names, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.12, y=0.01)
    axes.set_xlabel("objects")
    if min(counts) and counts[0] > _LOGARITHMIC_FROM * counts[-1]:
        axes.set_xscale("log")
        axes.set_xlabel("objects (logarithmic)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title, fontsize=10)
    figure.savefig(path, dpi=110)
