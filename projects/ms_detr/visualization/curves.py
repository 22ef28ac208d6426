"""Training curves: losses per term, one-to-one beside one-to-many, and AP over iterations."""

from __future__ import annotations

import json
import logging
import math
import os
from collections import defaultdict
from itertools import cycle
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

__all__ = ["Series", "loss_series", "read_metrics", "save_training_curves"]

logger = logging.getLogger(__name__)

Series = dict[int, float]
"""Values by iteration, in ascending order of iterations."""

_SUPERVISIONS = {
    "one_to_one": ("one-to-one", "#1f5fbf"),
    "mixed": ("one-to-many", "#e2661a"),
    "proposals": ("encoder proposals", "#8a8a8a"),
}
_FURTHER_COLOURS = ("#9b3fb5", "#2e9e5b", "#c7a008", "#d1345b", "#17a2a8", "#7a5230")
_TERMS = {"class": "classification", "l1": "box L1", "giou": "box GIoU"}
_FURTHER_TERMS = {
    "mask": "mask cross-entropy",
    "dice": "mask dice",
    "rpn_class": "proposal classification",
    "rpn_box": "proposal box",
}
_HEAD = "/encoder"  # ends the names of what auxiliary heads are taught themselves
_PRECISIONS = {
    "bbox/AP": ("AP", "#1f5fbf"),
    "bbox/AP50": ("AP50", "#2e9e5b"),
    "segm/AP": ("mask AP", "#9b3fb5"),
    "segm/AP50": ("mask AP50", "#c7a008"),
    "ema/bbox/AP": ("AP, averaged weights", "#7fb0ea"),
    "ema/segm/AP": ("mask AP, averaged weights", "#cfa3de"),
}


def read_metrics(metrics_json: str | os.PathLike[str]) -> dict[str, Series]:
    """Reads the file of detectron2's `JSONWriter`, one json object a line.

    A last line that was cut short is left out with a warning. Where the iterations jump back, the
    training was resumed: what was written after that point before is dropped.

    Returns:
        Values by metric name and iteration; names whose values are not numbers are left out.

    Raises:
        ValueError: The file is missing, or a line other than the last is not json.
    """
    path = Path(metrics_json)
    if not path.is_file():
        raise ValueError(
            f"{path}: the metrics do not exist; mend: train first, or correct the path"
        )
    metrics: dict[str, Series] = defaultdict(dict)
    newest = -1
    lines = path.read_text().splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            iteration = int(entry["iteration"])
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines):
                logger.warning("%s: the last line is not complete and is left out", path)
                break
            raise ValueError(
                f"{path}: line {number} is not a line of metrics ({error}); mend: remove it"
            ) from error
        if iteration < newest:
            for series in metrics.values():
                for later in [known for known in series if known >= iteration]:
                    del series[later]
        newest = iteration
        for name, value in entry.items():
            if name != "iteration" and isinstance(value, (int, float)):
                metrics[name][iteration] = float(value)
    return {name: series for name, series in metrics.items() if series}


def loss_series(metrics: dict[str, Series]) -> dict[tuple[str, str], Series]:
    """Sums `<supervision>/<layer>/<term>` over layers; keys are (supervision, term).

    The losses of auxiliary heads, `<supervision>/encoder/<term>`, are kept apart from those of
    their queries: their keys are (`<supervision>/encoder`, term).
    """
    layers: dict[tuple[str, str], list[Series]] = defaultdict(list)
    for name, series in metrics.items():
        parts = name.split("/")
        if len(parts) == 3 and parts[1].isdigit():  # others are metrics: "ema/bbox/AP"
            layers[parts[0], parts[2]].append(series)
        elif len(parts) == 3 and name.startswith(f"{parts[0]}{_HEAD}/"):
            layers[parts[0] + _HEAD, parts[2]].append(series)
    totals = {}
    for key, group in layers.items():
        common = sorted(set.intersection(*(set(series) for series in group)))
        totals[key] = {step: math.fsum(series[step] for series in group) for step in common}
    return totals


def save_training_curves(
    metrics_json: str | os.PathLike[str], path: str | os.PathLike[str], *, title: str = ""
) -> Path:
    """Writes a PNG with one panel per loss term and one with AP of boxes and masks over iterations.

    Losses are as they enter the total, weighted and summed over layers; the pale line is what was
    logged, the strong one a running mean. Every supervision and term that was logged is drawn;
    those of this project have colours and labels of their own, others follow under their names.

    Args:
        metrics_json: `metrics.json` of the training.
        path: where to write; missing folders are made.
        title: a line above the panels.

    Returns:
        The path of the picture.

    Raises:
        ValueError: The metrics cannot be read, or hold neither losses nor AP.
    """
    metrics = read_metrics(metrics_json)
    losses = loss_series(metrics)
    precisions = {name: metrics[name] for name in _PRECISIONS if name in metrics}
    if not losses and not precisions:
        raise ValueError(
            f"{metrics_json}: no loss named <supervision>/<layer>/<term> and no AP in it; "
            "mend: give the metrics.json of a training of this project"
        )
    styles = _styles(losses)
    others = {term: _FURTHER_TERMS.get(term, term) for _, term in losses}
    terms = _TERMS | {term: label for term, label in others.items() if term not in _TERMS}
    rows = math.ceil((len(terms) + 1) / 2)
    figure = Figure(figsize=(12, 3.8 * rows), dpi=120, layout="constrained", facecolor="white")
    canvas = FigureCanvasAgg(figure)
    panels = list(figure.subplots(rows, 2).ravel())
    for panel, (term, label) in zip(panels, terms.items()):
        _draw_losses(panel, losses, styles, term, label)
    _draw_precisions(panels[len(terms)], precisions)
    for panel in panels[len(terms) + 1 :]:
        panel.set_axis_off()
    if title:
        figure.suptitle(title, fontsize=14, fontweight="bold")
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    canvas.print_png(str(target))
    return target


def _styles(losses: dict[tuple[str, str], Series]) -> dict[str, tuple[str, str]]:
    """Label and colour by supervision: those of this project first, others as they come.

    An auxiliary head has the colour of its queries.
    """
    names = dict.fromkeys(name.removesuffix(_HEAD) for name, _ in losses)
    others = (name for name in names if name not in _SUPERVISIONS)
    styles = _SUPERVISIONS | {
        name: (name, colour) for name, colour in zip(others, cycle(_FURTHER_COLOURS))
    }
    heads = {
        name + _HEAD: (f"{label}, the head itself", colour)
        for name, (label, colour) in styles.items()
    }
    return styles | heads


def _draw_losses(
    panel: Axes,
    losses: dict[tuple[str, str], Series],
    styles: dict[str, tuple[str, str]],
    term: str,
    label: str,
) -> None:
    _prepare(panel, f"{label} loss (weighted, summed over layers)")
    peak = 0.0
    for supervision, (name, colour) in styles.items():
        series = losses.get((supervision, term))
        if not series:
            continue
        steps, values = np.array(list(series)), np.array(list(series.values()))
        smooth = _running_mean(values)
        thin = supervision == "proposals"
        panel.plot(steps, values, color=colour, alpha=0.22, linewidth=0.9)
        width = 1.4 if thin else 2.2
        line = "--" if supervision.endswith(_HEAD) else "-"
        marker = "o" if len(steps) == 1 else None  # a line through one point cannot be seen
        panel.plot(steps, smooth, line, color=colour, linewidth=width, marker=marker, label=name)
        finite = values[np.isfinite(values)]
        # the first steps may be many times higher than all the rest and would flatten it
        if len(finite):
            peak = max(peak, float(np.percentile(finite, 98)) * 1.1)
    if peak > 0:
        panel.set_ylim(0, peak)
    _finish(panel)


def _draw_precisions(panel: Axes, precisions: dict[str, Series]) -> None:
    _prepare(panel, "average precision on the validation images (percent)")
    for name, series in precisions.items():
        label, colour = _PRECISIONS[name]
        steps, values = list(series), list(series.values())
        panel.plot(
            steps, values, color=colour, linewidth=2.2, marker="o", markersize=5, label=label
        )
        if math.isfinite(values[-1]):
            panel.annotate(
                f"{values[-1]:.1f}", (steps[-1], values[-1]), textcoords="offset points",
                xytext=(0, 7), ha="center", color=colour, fontweight="bold",
            )  # fmt: skip
    finite = [value for series in precisions.values() for value in series.values()]
    highest = max((value for value in finite if math.isfinite(value)), default=0.0)
    panel.set_ylim(0, min(105.0, max(10.0, highest * 1.2)))
    _finish(panel)


def _prepare(panel: Axes, title: str) -> None:
    panel.set_title(title, fontsize=11, loc="left")
    panel.set_xlabel("iteration")
    # by default the locator prefers two ticks to whole ones, and one iteration gets fractions
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    panel.ticklabel_format(axis="x", style="plain", useOffset=False)
    panel.grid(color="#e4e4e4", linewidth=0.8)
    panel.set_axisbelow(True)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)


def _finish(panel: Axes) -> None:
    lines = panel.get_legend_handles_labels()[0]
    if len(lines) > 5:
        panel.legend(frameon=False, fontsize=8, ncols=2)
    elif lines:
        panel.legend(frameon=False, fontsize=10)
    else:
        panel.text(0.5, 0.5, "not logged", transform=panel.transAxes, ha="center", color="#8a8a8a")


def _running_mean(values: np.ndarray) -> np.ndarray:
    """Centred mean over about a twentieth of the curve, with shorter windows at its ends."""
    reach = max(1, len(values) // 40)
    padded = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    half = np.minimum(np.minimum(index, len(values) - 1 - index), reach)
    return (padded[index + half + 1] - padded[index - half]) / (2 * half + 1)
