"""What all benchmarks share: figures and their file, taking turns, child processes, the table.

A figure is a number with a goal, and the times (or sizes) that it was made of. All benchmarks write
``{"figures": [{"name", "value", "better", "goal", "unit", "arms"}], "setting": {..}}``.

    python tools/benchmarking.py FILE.json

prints such a file as a table for a document.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

LARGE_PAGES = "THP_MEM_ALLOC_ENABLE"  # read by torch: large pages for large tensors
LEAST_RUNS = 5


@dataclass(frozen=True)
class Figure:
    """One number of a benchmark.

    Attributes:
        name: what is compared with what.
        value: the number; None where it was not measured.
        better: "higher" or "lower".
        goal: None for a number that is only told.
        unit: of ``value``.
        arms: what the number was made of, each with its unit in the name.
    """

    name: str
    value: float | None
    better: str
    goal: float | None
    unit: str
    arms: dict[str, float]

    @property
    def reached(self) -> bool | None:
        """Whether the goal is reached; None without a goal or a value."""
        if self.goal is None or self.value is None:
            return None
        return self.value >= self.goal if self.better == "higher" else self.value <= self.goal


def take_turns(
    arms: Mapping[str, Callable[[], object]], runs: int, *, device: str = "cpu"
) -> dict[str, float]:
    """Median seconds of every arm. Each runs once before, then they take turns, ``runs`` times."""
    if runs < LEAST_RUNS:
        raise ValueError(f"a median needs at least {LEAST_RUNS} runs, got {runs}")
    for work in arms.values():
        work()
    taken: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(runs):
        for name, work in arms.items():
            _wait(device)
            begin = time.perf_counter()
            result = work()
            _wait(device)
            taken[name].append(time.perf_counter() - begin)
            del result  # freeing the result is not part of the work
    return {name: statistics.median(times) for name, times in taken.items()}


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def ratio(
    name: str,
    seconds: Mapping[str, float],
    above: str,
    below: str,
    *,
    goal: float | None,
    better: str = "higher",
) -> Figure:
    """Figure seconds[above] / seconds[below]."""
    arms = {f"{arm} ms": 1000 * seconds[arm] for arm in (above, below)}
    return Figure(name, seconds[above] / seconds[below], better, goal, "times", arms)


def in_child(script: str, arguments: Sequence[str], environment: Mapping[str, str]) -> Any:
    """Run a script in a process of its own and return the JSON of its last line.

    Raises:
        RuntimeError: the process failed; with the end of what it said.
    """
    done = subprocess.run(
        [sys.executable, script, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{script} {' '.join(arguments)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def peak_bytes(work: Callable[[], object]) -> int:
    """Most memory that the process held during ``work`` beyond what it held before (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _status("VmRSS")
    result = work()
    peak = _status("VmHWM") - before
    del result
    return peak


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return 1024 * int(line.split()[1])
    raise RuntimeError(f"/proc/self/status has no {key}")


def setting(threads: int, runs: int, device: str) -> dict[str, Any]:
    """Under which conditions the figures were taken."""
    name = torch.cuda.get_device_name() if device == "cuda" else _processor()
    return {
        "device": name,
        "cores": os.cpu_count(),
        "threads": threads,
        "runs": runs,
        "other work (load)": round(os.getloadavg()[0], 1),
        "torch": torch.__version__,
        LARGE_PAGES: os.environ.get(LARGE_PAGES, "0") + ", and 1 where the name says so",
    }


def _processor() -> str:
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":")[1].strip()
    return platform.processor()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that all benchmarks have."""
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--plot", type=Path, help="draw them there, a .png file")
    parser.add_argument("--quick", action="store_true", help="fewer figures, within a minute")
    parser.add_argument("--runs", type=int, default=7, help="of every arm; the median is taken")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))


def check_arguments(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuse values that cannot be meant."""
    if options.runs < LEAST_RUNS:
        parser.error(f"--runs must be at least {LEAST_RUNS}, got {options.runs}")
    if options.threads < 1:
        parser.error(f"--threads must be at least 1, got {options.threads}")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: PyTorch finds no CUDA device here; use --device cpu")


def table(figures: Sequence[Figure]) -> str:
    """One line per figure: value, goal, and the arms."""
    width = max(len(figure.name) for figure in figures)
    lines = []
    for figure in figures:
        value = "not measured" if figure.value is None else f"{figure.value:.2f} {figure.unit}"
        sign = ">=" if figure.better == "higher" else "<="
        goal = "" if figure.goal is None else f"{sign} {figure.goal:g}"
        mark = {True: "ok", False: "MISSED", None: ""}[figure.reached]
        arms = ", ".join(f"{name} {number:.4g}" for name, number in figure.arms.items())
        lines.append(f"{figure.name:{width}}  {value:>14}  {goal:8} {mark:7} {arms}".rstrip())
    return "\n".join(lines)


def write_json(path: Path, figures: Sequence[Figure], conditions: Mapping[str, Any]) -> None:
    """Write the figures in the format that all benchmarks have."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"figures": [asdict(figure) for figure in figures], "setting": dict(conditions)}
    path.write_text(json.dumps(content, indent=2) + "\n")


def markdown(content: Mapping[str, Any]) -> str:
    """A file of figures as a Markdown table, with its setting above it."""
    setting_line = ", ".join(f"{key} {value}" for key, value in content["setting"].items())
    lines = [setting_line, "", "| figure | value | goal | |", "| --- | --- | --- | --- |"]
    for row in content["figures"]:
        figure = Figure(**row)
        value = "not measured" if figure.value is None else f"{figure.value:.2f}"
        sign = "at least" if figure.better == "higher" else "at most"
        goal = "" if figure.goal is None else f"{sign} {figure.goal:g}"
        if figure.reached is False:
            value = f"**{value}**"
        arms = ", ".join(f"{name} {number:.3g}" for name, number in figure.arms.items())
        lines.append(f"| {figure.name} | {value} | {goal} | {arms} |")
    return "\n".join(lines)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("give one file of figures, as --json of a benchmark wrote it")
    print(markdown(json.loads(Path(sys.argv[1]).read_text())))
