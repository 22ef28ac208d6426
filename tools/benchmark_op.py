"""Time and memory of multi-scale deformable attention against what else there is.

    python tools/benchmark_op.py [--quick] [--json FILE.json] [--plot FILE.png] [--device cuda]

Every figure compares arms that took turns in one process, on the same inputs, after a check that
they compute the same; medians are taken. Exits with 1 if a goal is missed. docs/op.md tells what
the arms are. Where there is a GPU, and kernels for it, they are measured too; with --device cuda
nothing else is. That takes nvcc, which compiles the baseline.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import op_plot
import torch
from benchmarking import (
    LARGE_PAGES,
    Figure,
    add_arguments,
    check_arguments,
    in_child,
    ratio,
    setting,
    table,
    write_json,
)

from ms_detr.ops import implementation

_CAPABILITY = "MS_DETR_CPU_CAPABILITY"  # limits the kernels to an instruction set
_JOBS = Path(__file__).with_name("op_jobs.py")
_QUICK = ("encoder", "memory")
_ALL = ("encoder", "encoder_gradients", "encoder_large_pages", "decoder", "decoder_large_pages",
        "module", "memory")  # fmt: skip


def run(job: str, options: argparse.Namespace, environment: Mapping[str, str]) -> Any:
    """What a job of op_jobs.py measured."""
    arguments = [job, "--threads", str(options.threads), "--runs", str(options.runs)]
    threads = {"OMP_NUM_THREADS": str(options.threads)}
    print(f"measuring: {job.replace('_', ' ')} {' '.join(environment.values())}", file=sys.stderr)
    return in_child(str(_JOBS), arguments, {**threads, **environment})


def figures_of(job: str, options: argparse.Namespace) -> list[Figure]:
    """Figures of a job that makes figures."""
    environment = {LARGE_PAGES: "1"} if job.endswith("large_pages") else {}
    return [Figure(**row) for row in run(job, options, environment)]


def instruction_sets(options: argparse.Namespace) -> list[Figure]:
    """The same binary, limited."""
    figures = []
    for name, goal in (("avx2", 8), ("sse2", 5)):
        seconds = run("capability", options, {_CAPABILITY: name})
        figures.append(
            ratio(f"encoder forward, no more than {name.upper()}: official grid_sample / ours",
                  seconds, "official", "ours", goal=goal)
        )  # fmt: skip
    return figures


def no_gpu() -> str | None:
    """Why nothing can be measured on a GPU; None if it can."""
    if not torch.cuda.is_available():
        return "PyTorch finds no CUDA device here"
    current = implementation("cuda")
    return None if current.name == "compiled" else current.reason


def measure(options: argparse.Namespace) -> list[Figure]:
    """All figures."""
    if options.device == "cuda":
        return figures_of("cuda", options)
    figures: list[Figure] = [] if no_gpu() or options.quick else figures_of("cuda", options)
    for job in _QUICK if options.quick else _ALL:
        figures += figures_of(job, options)
    if not options.quick:
        figures += instruction_sets(options)
        peak = run("official_memory", options, {})
        for figure in figures:
            if figure.name == "encoder forward: peak extra memory / results":
                figure.arms.update(peak)
    return figures


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    options = parser.parse_args(arguments)
    check_arguments(parser, options)
    current = implementation(options.device)
    if current.name != "compiled":
        parser.error(f"nothing to measure, {current.reason}; to mend it: {current.mend}")
    conditions = setting(options.threads, options.runs, options.device)
    conditions["GPU"] = torch.cuda.get_device_name() if no_gpu() is None else "none"
    print(", ".join(f"{key} {value}" for key, value in conditions.items()))
    figures = measure(options)
    print(table(figures))
    if no_gpu() is not None:
        print(f"GPU: not measured; {no_gpu()}")
    if options.json:
        write_json(options.json, figures, conditions)
    if options.plot:
        title = f"{conditions['device']}, {options.threads} threads, torch {conditions['torch']}"
        op_plot.draw(options.plot, run("curves", options, {}), title)
    return 1 if any(figure.reached is False for figure in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
