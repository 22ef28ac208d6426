"""Memory over a long run: does training grow, and how much does a large evaluation take?

    python tools/benchmark_memory.py [--only training] [--quick] [--json FILE] [--plot FILE.png]

- training: 2,000 iterations of a tiny detector with two data workers, evaluated and saved on the
  way. The memory of the process and of its workers is sampled; the figure is the slope of a
  straight line through the second half of the samples, in MiB per 1,000 iterations.
- evaluation: 5,000 images with 300 detections each, of 80 classes, scored by our evaluator and by
  detectron2's, each in a process of its own; the figure is the most memory beyond what the process
  had before the first detection.

Exits with 1 if a bound is missed. ``--quick`` takes a tenth of both. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import torch
from benchmarking import (
    Figure,
    add_arguments,
    check_arguments,
    in_child,
    setting,
    table,
    write_json,
)
from memory_plot import draw
from memory_runs import MIB, evaluate_generated, slope, train_and_sample

GROWTH = 4.0  # MiB per 1,000 iterations
EVALUATION = 700.0  # MiB


def training_figures(iterations: int) -> tuple[list[Figure], list[tuple[int, float, float]]]:
    """Slopes of the second half, and the samples: (iteration, MiB of process, MiB of workers)."""
    print(f"training: {iterations} iterations", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        samples = train_and_sample(Path(folder), iterations)
    half = samples[len(samples) // 2 :]
    figures = []
    for column, who in ((1, "process"), (2, "data workers")):
        arms = {
            "first MiB": samples[0][column],
            "middle MiB": half[0][column],
            "last MiB": half[-1][column],
        }
        grown = 1000 * slope([row[0] for row in half], [row[column] for row in half])
        name = f"training, {iterations} iterations: growth of the {who}"
        figures.append(Figure(name, grown, "lower", GROWTH, "MiB per 1,000", arms))
    return figures, samples


def evaluation_figures(images: int, threads: int) -> list[Figure]:
    """Most memory of an evaluation, ours against a bound and against detectron2's."""
    peaks = {}
    for who in ("ours", "detectron2"):
        print(f"evaluation: {images} images, {who}", file=sys.stderr)
        arguments = ["--evaluate", who, str(images), "--threads", str(threads)]
        peaks[who] = in_child(__file__, arguments, {"OMP_NUM_THREADS": str(threads)})
    ours, theirs = (peaks[who]["bytes"] / MIB for who in ("ours", "detectron2"))
    seconds = {f"{who} s": peaks[who]["seconds"] for who in peaks}
    # As text, in which NaN equals NaN.
    if len({json.dumps(done["results"], sort_keys=True) for done in peaks.values()}) > 1:
        raise RuntimeError("the two evaluations do not agree")
    arms = {"ours MiB": ours, "detectron2 MiB": theirs}
    name = f"evaluation, {images} images x 300: "
    return [
        Figure(name + "peak memory", ours, "lower", EVALUATION, "MiB", arms),
        Figure(name + "memory, detectron2's / ours", theirs / ours, "higher", None, "times", arms),
        Figure(
            name + "time, detectron2's / ours", seconds["detectron2 s"] / seconds["ours s"],
            "higher", None, "times", seconds,
        ),
    ]  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--only", choices=("training", "evaluation"), help="one of the two")
    parser.add_argument(
        "--evaluate", nargs=2, metavar=("WHO", "IMAGES"), help="what a process of its own does"
    )
    options = parser.parse_args(arguments)
    check_arguments(parser, options)
    torch.set_num_threads(options.threads)
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    if options.evaluate:
        who, images = options.evaluate
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(evaluate_generated(Path(folder), who, int(images))))
        return 0
    conditions = setting(options.threads, 1, "cpu")
    print(", ".join(f"{key} {value}" for key, value in conditions.items()))
    figures: list[Figure] = []
    samples: list[tuple[int, float, float]] = []
    part = 10 if options.quick else 1
    if options.only in (None, "training"):
        figures, samples = training_figures(2000 // part)
    if options.only in (None, "evaluation"):
        figures += evaluation_figures(5000 // part, options.threads)
    print(table(figures))
    if options.json:
        write_json(options.json, figures, conditions)
    if options.plot and samples:
        draw(options.plot, samples)
    return int(any(figure.reached is False for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
