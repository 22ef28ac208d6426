#!/usr/bin/env python
"""The whole road on generated data: make scenes, train, evaluate, draw.

    python tools/demo.py --output output/demo
    python tools/demo.py --masks --output output/demo_masks
    python tools/demo.py --compare --output output/demo_compare
    python tools/demo.py --compare-co --jobs 2 --output output/demo_compare_co

The first trains the small MS-DETR of ``configs/demo/shapes.py``, the second that of
``configs/demo/shapes_mask.py``, which gives masks too.  With ``--compare`` the first one's model is
trained with and without its one-to-many supervision, everything else equal, for several seeds; with
``--compare-co`` with and without the auxiliary heads of ``configs/demo/shapes_co.py`` as well.
``--jobs N`` has N of these trainings going on at once, with one thread each.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from ms_detr.data import DatasetError, generate_shapes

REPOSITORY = Path(__file__).resolve().parent.parent
BOXES = REPOSITORY / "configs" / "demo" / "shapes.py"
MASKS = REPOSITORY / "configs" / "demo" / "shapes_mask.py"
COLLABORATIVE = REPOSITORY / "configs" / "demo" / "shapes_co.py"
TASKS = {"bbox": "boxes", "segm": "masks"}
MAKER = {"num_train": 3000, "num_val": 200, "image_size": 128, "seed": 0}
# Threads wait busily for one another only shortly: other programs need the cores too.
ON_A_CPU = {"GOMP_SPINCOUNT": "2000"}
# Six trainings in the time of three; every schedule is relative to its length.
COMPARED = ["train.max_iter=700", "train.eval_period=0"]


class Comparison(NamedTuple):
    """Trainings that are equal but for what each arm leaves out.

    Attributes:
        config: what all start from.
        arms: by what they are called in the table, the overrides of each.
    """

    config: Path
    arms: dict[str, list[str]]


def without(*names: str) -> list[str]:
    """Overrides that delete entries of the supervisions."""
    return [f"~model.supervisions.{name}" for name in names]


COMPARE = Comparison(
    BOXES,
    {
        "one-to-one and one-to-many (MS-DETR)": [],
        "one-to-one alone": without("mixed"),
    },
)
COMPARE_CO = Comparison(
    COLLABORATIVE,
    {
        "one-to-one alone": without("mixed", "atss", "faster_rcnn", "adapter"),
        "Co, K = 1 (ATSS)": without("mixed", "faster_rcnn"),
        "Co, K = 2 (ATSS, Faster R-CNN)": without("mixed"),
        "MS": without("atss", "faster_rcnn", "adapter"),
        "MS + Co, K = 2": [],
    },
)


def mixed_precision() -> list[str]:
    """Compute in bfloat16 where the processor has instructions for it; elsewhere it is slower."""
    path = Path("/proc/cpuinfo")
    flags = path.read_text() if path.is_file() else ""
    fast = "avx512_bf16" in flags or "amx_bf16" in flags
    return ["train.amp.enabled=True"] if fast else []


def call(script: str, *arguments: object, threads: int | None = None) -> None:
    """Run a script of this repository and stop if it fails."""
    command = [sys.executable, str(REPOSITORY / script), *map(str, arguments)]
    environment = {**ON_A_CPU, **os.environ}
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    status = subprocess.run(command, check=False, env=environment).returncode
    if status:
        sys.exit(status)


def train(
    config: Path, output: Path, data: Path, overrides: list[str], threads: int | None = None
) -> dict[str, dict[str, float]]:
    """Train into ``output`` with train_net.py; return the final metrics by task."""
    paths = [f"train.output_dir={output}", f"dataset.root={data}"]
    call(
        "train_net.py",
        "--config-file",
        config,
        "--num-gpus",
        0,
        *paths,
        *mixed_precision(),
        *overrides,
        threads=threads,
    )
    return json.loads((output / "results.json").read_text())["metrics"]


def demo(config: Path, output: Path, data: Path, overrides: list[str]) -> None:
    """Train once, then draw."""
    started = time.monotonic()
    results = train(config, output, data, overrides)
    call("tools/visualize.py", "--config-file", output / "config.yaml", "--output", output)
    print(f"\nDone in {(time.monotonic() - started) / 60:.1f} minutes. Validation images:\n")
    names = ["AP", "AP50", "AP75", "APs", "APm", "APl"]
    print("  ".join(f"{name:>6}" for name in ["", *names]))
    for task, metrics in results.items():
        print(
            "  ".join(f"{text:>6}" for text in [TASKS[task], *map(cell, map(metrics.get, names))])
        )
    print(f"\nMetrics     {output / 'metrics.json'}  (TensorBoard: tensorboard --logdir {output})")
    print(f"Detections  {output / 'detections.png'}")
    print(f"Curves      {output / 'curves.png'}")


def compare(
    comparison: Comparison, output: Path, data: Path, overrides: list[str], seeds: int, jobs: int
) -> None:
    """Train all arms for every seed, and print one row an arm."""
    threads = 1 if jobs > 1 else None
    pool = ThreadPoolExecutor(jobs)
    runs = {
        (name, seed): pool.submit(
            train,
            comparison.config,
            output / f"arm{arm}_seed{seed}",
            data,
            [f"train.seed={seed}", *edits, *COMPARED, *overrides],
            threads,
        )
        for seed in range(seeds)
        for arm, (name, edits) in enumerate(comparison.arms.items())
    }
    try:
        found = {key: run.result()["bbox"] for key, run in runs.items()}
    finally:  # after a failure those that have begun end, the others never begin
        pool.shutdown(cancel_futures=True)
    rows = {name: [found[name, seed] for seed in range(seeds)] for name in comparison.arms}
    (output / "comparison.json").write_text(json.dumps(rows, indent=2))
    print(f"\nMean and deviation over {seeds} seeds; {' '.join(COMPARED)}, same data:\n")
    print(compared(rows))
    print(f"\nAll numbers: {output / 'comparison.json'}")


def compared(rows: dict[str, list[dict[str, float]]]) -> str:
    """The metrics of every arm, seed by seed, as a table."""
    width = max(map(len, rows))
    lines = [f"{'':{width}}  {'AP':>12}  {'AP50':>12}  AP of each seed"]
    for name, found in rows.items():
        cells = [spread([metrics[key] for metrics in found]) for key in ("AP", "AP50")]
        each = " ".join(cell(metrics["AP"]) for metrics in found)
        lines.append(f"{name:{width}}  {cells[0]:>12}  {cells[1]:>12}  {each}")
    return "\n".join(lines)


def cell(value: float | None) -> str:
    """A metric as text; one that is not defined (no such object) is a dash."""
    return "-" if value is None else f"{value:.1f}"


def spread(values: list[float]) -> str:
    """Mean and standard deviation."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.1f} +- {deviation:.1f}"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("output/demo"), help="folder for all")
    parser.add_argument("--data", type=Path, help="folder for the scenes (default: OUTPUT/data)")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--masks", action="store_true", help="boxes and masks")
    kind.add_argument("--compare", action="store_true", help="both supervisions against one")
    kind.add_argument("--compare-co", action="store_true", help="auxiliary heads, and both")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each arm of a comparison")
    parser.add_argument("--jobs", type=int, default=1, help="runs of a comparison at once")
    parser.add_argument("opts", nargs="*", help="overrides for train_net.py, key=value")
    args = parser.parse_args(arguments)
    for name in ("seeds", "jobs"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} must be at least 1, got {getattr(args, name)}")
    data = args.data or args.output / "data"
    try:
        generate_shapes(data, **MAKER)
    except DatasetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if args.compare or args.compare_co:
        comparison = COMPARE if args.compare else COMPARE_CO
        compare(comparison, args.output, data, args.opts, args.seeds, args.jobs)
    else:
        demo(MASKS if args.masks else BOXES, args.output, data, args.opts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
