#!/usr/bin/env python
"""Trains under random kills for a while, resuming each time, and compares with undisturbed runs.

    python tools/soak.py --minutes 30 --output output/soak

A small MS-DETR is trained on generated scenes, with workers, averaged weights, evaluations and
checkpoints: once undisturbed, then again and again under SIGKILL and SIGTERM at random moments, and
with its newest checkpoint damaged now and then, until the time is over. Every run has to end like
the undisturbed one, in every bit of weights, optimizer, metrics and results. Leaves ``soak.json``
and prints a table; ends with code 1 if anything differs or went wrong.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import shutil
import sys
import time
from collections import Counter
from pathlib import Path

from soak_lives import Life, damage_newest, live, pause
from tabulate import tabulate

from ms_detr.data import generate_shapes
from ms_detr.engine.compare_runs import run_differences

REPOSITORY = Path(__file__).resolve().parent.parent
SETTINGS = [
    "train.eval_period=20", "train.checkpointer.period=5", "train.log_period=1",
    "train.ema.enabled=True", "train.accumulate=2", "train.checkpointer.best=ema/bbox/AP",
    "dataloader.train.num_workers=2", "dataloader.test.num_workers=1",
    "dataloader.train.total_batch_size=4", "train.device=cpu",
]  # fmt: skip


def command(out: Path, data: Path, args: argparse.Namespace, resume: bool) -> list[str]:
    """The training; several processes with ``--processes``."""
    return [
        sys.executable, str(REPOSITORY / "train_net.py"),
        "--config-file", str(REPOSITORY / "configs" / "demo" / "shapes.py"),
        "--num-gpus", str(args.processes), *(["--resume"] if resume else []),
        f"train.output_dir={out}", f"dataset.root={data}", f"train.max_iter={args.iterations}",
        *SETTINGS, *args.opts,
    ]  # fmt: skip


def disturbed_run(
    out: Path, data: Path, args: argparse.Namespace, chance: random.Random, until: float
) -> tuple[list[Life], Counter[str]]:
    """One run from its start to its end; after ``until`` it is left alone."""
    lives: list[Life] = []
    damaged: Counter[str] = Counter()
    while True:
        left = until - time.monotonic()
        seconds = min(chance.expovariate(1 / args.interval) + 1, left) if left > 0 else None
        how = "SIGTERM" if chance.random() < 0.3 else "SIGKILL"
        log = out.parent / f"{out.name}_life{len(lives)}.log"
        lives.append(live(command(out, data, args, bool(lives)), out, log, seconds, how))
        last = lives[-1]
        print(f"{out.name}: {last.ended_by} while {last.phase}, code {last.code}, "
              f"iterations {last.first} to {last.last}", flush=True)  # fmt: skip
        if last.ended_by == "itself":
            return lives, damaged
        pause()
        if last.ended_by == "SIGKILL" and chance.random() < 0.3:
            kind = damage_newest(out, chance)
            damaged.update([kind] if kind else [])


def summary(
    args: argparse.Namespace, runs: list[dict], undisturbed: Life, started: float
) -> dict[str, object]:
    """Everything that is told, as plain values."""
    lives: list[Life] = [life for run in runs for life in run["lives"]]
    ends = Counter(
        f"{life.ended_by} while {life.phase}" for life in lives if life.phase != "ending"
    )
    trained = sum(life.last - life.first for life in lives)
    memory = [life.memory for life in lives if life.last > life.first]
    return {
        "minutes": round((time.monotonic() - started) / 60, 1),
        "processes": max(1, args.processes),
        "runs": len(runs),
        "iterations of a run": args.iterations,
        "ended by": dict(sorted(ends.items())),
        "kills and signals": sum(ends.values()),
        "resumes": sum(len(run["lives"]) - 1 for run in runs),
        "checkpoints damaged": dict(sum((run["damaged"] for run in runs), Counter())),
        "checkpoints found unsound": sum(life.skipped for life in lives),
        "iterations done": trained,
        "iterations repeated": trained - args.iterations * len(runs),
        "memory in MiB": {
            "undisturbed": round(undisturbed.memory),
            "first life": round(memory[0]) if memory else None,
            "last life": round(memory[-1]) if memory else None,
            "largest": round(max(memory)) if memory else None,
        },
        "bad exit codes": [
            dataclasses.asdict(life) for life in lives if not _ended_well(life, args.iterations)
        ],
        "differences": [text for run in runs for text in run["differences"]],
        "identical": all(not run["differences"] for run in runs),
    }


def _ended_well(life: Life, iterations: int) -> bool:
    """Killed as wanted, or ended with code 0; before it trains, and when it is done training, a
    process dies of SIGTERM like any other."""
    if life.ended_by == "SIGKILL":
        return life.code in (-9, 137)
    outside = life.phase == "starting" or life.last == iterations
    return life.code == 0 or (life.ended_by == "SIGTERM" and outside and life.code in (-15, 143))


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0, help="how long to disturb (30)")
    parser.add_argument("--output", type=Path, default=Path("output/soak"), help="new folder")
    parser.add_argument("--iterations", type=int, default=120, help="of one run (120)")
    parser.add_argument("--interval", type=float, default=25.0, help="mean seconds of a life (25)")
    parser.add_argument("--processes", type=int, default=0, help="of the training; 0: one")
    parser.add_argument("--seed", type=int, default=0, help="of moments and kinds of kills")
    parser.add_argument("opts", nargs="*", help="overrides for train_net.py, key=value")
    args = parser.parse_args(arguments)
    if args.minutes <= 0 or args.iterations < 1 or args.interval <= 0:
        parser.error("--minutes, --iterations and --interval must be above 0")
    if args.output.exists():
        parser.error(f"--output {args.output} exists; mend: give a new folder")
    args.output.mkdir(parents=True)
    data = args.output / "data"
    generate_shapes(data, num_train=80, num_val=16, image_size=96, seed=0)
    whole = args.output / "undisturbed"
    undisturbed = live(
        command(whole, data, args, False), whole, whole.with_suffix(".log"), None, ""
    )
    if undisturbed.code:
        print(f"the undisturbed run failed; see {whole.with_suffix('.log')}", file=sys.stderr)
        return 1
    chance, runs = random.Random(args.seed), []
    started = time.monotonic()
    while time.monotonic() - started < 60 * args.minutes:
        out = args.output / f"run{len(runs)}"
        lives, damaged = disturbed_run(out, data, args, chance, started + 60 * args.minutes)
        found = ["the run failed"] if lives[-1].code else run_differences(out, whole)
        runs.append({"lives": lives, "damaged": damaged, "differences": found})
        if not found:
            shutil.rmtree(out)  # the logs of its lives stay
    told = summary(args, runs, undisturbed, started)
    (args.output / "soak.json").write_text(json.dumps(told, indent=2))
    print(tabulate(_rows(told), tablefmt="pipe", headers=["", ""]))
    return 0 if told["identical"] and not told["bad exit codes"] else 1


def _rows(told: dict[str, object]) -> list[list[object]]:
    return [
        [name, ", ".join(f"{key}: {inner}" for key, inner in value.items()) or "none"]
        if isinstance(value, dict)
        else [name, value]
        for name, value in told.items()
    ]


if __name__ == "__main__":
    sys.exit(main())
