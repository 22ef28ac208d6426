"""Time and peak memory of a step and of inference against what may grow, and how fast they do.

    python tools/benchmark_scaling.py [--only queries] [--quick] [--json FILE] [--plot FILE.png]

One of these is varied, the others stay: queries, side of a square image, objects per image, images
in a batch, threads. For each, time and memory of a training step (forward, backward, update) and of
inference (forward and postprocessing) of the small model of `make demo`, with initial weights and
random images.

The exponent of a curve is the slope of the straight line of least squares through its upper half
in log-log coordinates: y grows as x ** exponent there. x is what comes in: the number of queries,
of pixels (side x side), of images, and 1 + objects. Memory is the most that a process takes beyond
what it has before the job, in a process of its own. Goals: nothing may grow faster than what comes
in: pixels and images at most linearly (exponent 1.1, with the noise of a measurement), objects at
most linearly (1). Queries attend to each other, densely, so they may reach 2, the square. Threads
have the gain of two over one instead.

Exits with 1 if a goal is missed. Times are medians; the sizes of one variable take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from benchmarking import (
    Figure,
    add_arguments,
    check_arguments,
    in_child,
    setting,
    table,
    take_turns,
    write_json,
)
from scaling_models import MIB, WORK, Sizes, peaks_of
from scaling_plot import draw

from ms_detr.host_memory import keep_freed_memory


@dataclass(frozen=True)
class Variable:
    """What is varied.

    Attributes:
        field: of `Sizes`.
        label: what x is.
        values, quick: of the field, rising.
        goals: of the exponents: (time, memory).
        fixed: the other sizes.
    """

    field: str
    label: str
    values: tuple[int, ...]
    quick: tuple[int, ...]
    goals: tuple[float, float]
    fixed: Sizes = Sizes()

    def x(self, value: int) -> int:
        """What comes in at a value of the field."""
        return {"side": value * value, "objects": 1 + value}.get(self.field, value)


VARIABLES = {
    "queries": Variable(
        "queries", "queries", (100, 300, 600, 1000, 1500, 2000, 3000), (50, 100, 200), (2.0, 2.0)
    ),
    "side": Variable(
        "side", "pixels of an image", (320, 480, 640, 800, 1120, 1600), (64, 128, 192), (1.1, 1.1),
        Sizes(images=1),
    ),
    "objects": Variable(
        "objects", "objects of an image, and 1", (0, 10, 30, 100, 300, 600, 1000), (0, 20, 40),
        (1.0, 1.0), Sizes(queries=300),
    ),
    "images": Variable("images", "images of a batch", (1, 2, 4, 8, 16), (1, 2, 4), (1.1, 1.1)),
}  # fmt: skip

Curve = tuple[list[float], list[float]]


def exponent(x: list[float], y: list[float]) -> float:
    """Slope in log-log coordinates over the upper half, of at least three points."""
    upper = min(len(x) // 2, len(x) - 3) if len(x) > 3 else 0
    return float(np.polyfit(np.log(x[upper:]), np.log(y[upper:]), 1)[0])


def measure(
    variable: Variable, options: argparse.Namespace
) -> tuple[list[Figure], dict[str, Curve]]:
    """Exponents of a variable, and its curves by the name of the figure."""
    values = variable.quick if options.quick else variable.values
    x = [float(variable.x(value)) for value in values]
    sizes = {value: replace(variable.fixed, **{variable.field: value}) for value in values}
    if options.quick:
        sizes = {value: size.shrunk(variable.field) for value, size in sizes.items()}
    # Inference does not see objects.
    works = ["step"] if variable.field == "objects" else list(WORK)
    peaks = peaks_in_child([(work, size) for work in works for size in sizes.values()], options)
    figures, curves = [], {}
    for work in works:
        print(f"measuring {variable.field}: {work}", file=sys.stderr)
        arms = {str(value): WORK[work](size, options.device) for value, size in sizes.items()}
        seconds = take_turns(arms, options.runs, device=options.device)
        del arms
        times = [1000 * seconds[str(value)] for value in values]
        for what, unit, y, goal in (
            ("time", "ms", times, variable.goals[0]),
            ("memory", "MiB", [peaks[work, size] for size in sizes.values()], variable.goals[1]),
        ):
            name = f"{work}, {what} against {variable.label}"
            told = {f"{value} {unit}": number for value, number in zip(values, y)}
            wanted = None if options.quick else goal
            figures.append(Figure(name, exponent(x, y), "lower", wanted, "exponent", told))
            curves[name] = (x, y)
    return figures, curves


def peaks_in_child(
    jobs: list[tuple[str, Sizes]], options: argparse.Namespace
) -> dict[tuple[str, Sizes], float]:
    """MiB of every job, each in a process of its own."""
    threads = str(options.threads)
    texts = [f"{work}:{sizes.text()}" for work, sizes in jobs]
    arguments = ["--threads", threads, "--device", options.device, "--peaks-of", *texts]
    peaks = in_child(__file__, arguments, {"OMP_NUM_THREADS": threads})
    return {job: peak / MIB for job, peak in zip(jobs, peaks)}


def thread_figures(options: argparse.Namespace) -> list[Figure]:
    """How much faster two threads are than one."""
    sizes = Sizes().shrunk("") if options.quick else Sizes()
    figures = []
    for work, make in WORK.items():
        job = make(sizes, "cpu")

        def on(threads: int, job: Callable[[], object] = job) -> object:
            torch.set_num_threads(threads)
            return job()

        seconds = take_turns({"1": lambda on=on: on(1), "2": lambda on=on: on(2)}, options.runs)
        arms = {f"{threads} threads ms": 1000 * value for threads, value in seconds.items()}
        gain = seconds["1"] / seconds["2"]
        figures.append(
            Figure(f"{work}, time of 1 / 2 threads", gain, "higher", None, "times", arms)
        )
    torch.set_num_threads(options.threads)
    return figures


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--only", choices=[*VARIABLES, "threads"], help="one variable")
    parser.add_argument("--peaks-of", nargs="+", metavar="WORK:SIZES", help="memory of these jobs")
    options = parser.parse_args(arguments)
    check_arguments(parser, options)
    torch.set_num_threads(options.threads)
    if options.device == "cpu":
        keep_freed_memory()  # as train_net.py does
    if options.peaks_of:
        texts = [text.partition(":") for text in options.peaks_of]
        jobs = [(work, Sizes.of(sizes)) for work, _, sizes in texts]
        print(json.dumps(peaks_of(jobs, options.device)))
        return 0
    conditions = setting(options.threads, options.runs, options.device)
    print(", ".join(f"{key} {value}" for key, value in conditions.items()))
    figures: list[Figure] = []
    curves: dict[str, Curve] = {}
    for name in [options.only] if options.only else [*VARIABLES, "threads"]:
        if name == "threads":
            figures += thread_figures(options) if (os.cpu_count() or 1) > 1 else []
            continue
        found, drawn = measure(VARIABLES[name], options)
        figures += found
        curves |= drawn
    print(table(figures))
    if options.json:
        write_json(options.json, figures, conditions)
    if options.plot and curves:
        exponents = {figure.name: figure.value for figure in figures}
        draw(options.plot, curves, exponents, f"{conditions['device']}, {options.threads} threads")
    return int(any(figure.reached is False for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
