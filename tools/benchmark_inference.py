"""Time, memory and agreement of a prepared detector, against other runtimes on the same weights.

    python tools/benchmark_inference.py [--quick] [--json FILE.json] [--plot FILE.png]

MS-DETR with ResNet-50 and 300 queries on one image of 800x1333 pixels, random weights. ONNX Runtime
and OpenVINO run the detector itself, exported; their predictions are compared before anything is
timed. The arms of a figure take turns in one process. Exits with 1 if a goal is missed. Where the
peers' packages are not installed, the command that brings them is printed and the rest measured.
``--quick`` takes a small detector and has no goals.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import inference_peers
from benchmarking import (
    LARGE_PAGES,
    Figure,
    add_arguments,
    check_arguments,
    in_child,
    setting,
    table,
    write_json,
)
from inference_jobs import BATCHES, MODELS
from inference_plot import draw

_JOBS = Path(__file__).with_name("inference_jobs.py")
_FULL = ("models/ms_detr.py", ("800", "1333"), ())
_QUICK = ("models/ms_detr_small.py", ("128", "160"), ("model.encoder.num_layers=1",))


def run(
    job: str,
    options: argparse.Namespace,
    environment: Mapping[str, str],
    arguments: Sequence[str] = (),
) -> list[Figure]:
    """Figures of a job of inference_jobs.py."""
    print("measuring:", job, *environment, *arguments, file=sys.stderr)
    config, size, overrides = _QUICK if options.quick else _FULL
    arguments = [job, *arguments, "--threads", str(options.threads), "--runs", str(options.runs)]
    arguments += ["--config", config, *(["--quick"] if options.quick else [])]
    arguments += ["--size", *size, *overrides]
    threads = {"OMP_NUM_THREADS": str(options.threads)}
    rows = in_child(str(_JOBS), arguments, {**threads, **environment})
    return [Figure(**row) for row in rows]


def measure(options: argparse.Namespace) -> list[Figure]:
    """All figures."""
    figures: list[Figure] = []
    if not inference_peers.missing():
        figures += run("peers", options, {})
        if not options.quick:
            large = run("peers", options, {LARGE_PAGES: "1"})
            timed = [figure for figure in large if "drift" not in figure.name]
            figures += [Figure(**{**vars(f), "name": f"{f.name}, large pages"}) for f in timed]
    figures += run("batches", options, {})
    for count in BATCHES[: 1 if options.quick else None]:
        for model in MODELS:
            chosen = ["--model", model, "--batch", str(count)]
            figures += run("memory", options, {}, chosen)
    if not options.quick:
        figures += run("levers", options, {}) + run("compiled", options, {})
    return figures


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    options = parser.parse_args(arguments)
    check_arguments(parser, options)
    if options.device != "cpu":
        parser.error("the peers are measured on CPUs; leave --device away")
    conditions = setting(options.threads, options.runs, options.device)
    print(", ".join(f"{key} {value}" for key, value in conditions.items()))
    figures = measure(options)
    print(table(figures))
    if inference_peers.missing():
        print(f"other runtimes: not measured; {', '.join(inference_peers.missing())} missing, "
              f"which this brings: {inference_peers.COMMAND}")  # fmt: skip
    if options.json:
        write_json(options.json, figures, conditions)
    if options.plot:
        title = f"{conditions['device']}, {options.threads} threads, torch {conditions['torch']}"
        draw(options.plot, figures, title)
    return 1 if any(figure.reached is False for figure in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
