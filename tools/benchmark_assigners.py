"""Time of the one-to-many assigners against loops over images and objects.

    python tools/benchmark_assigners.py [--device cuda] [--output FILE.json]

Both do the same work on the same predictions, in turns; the median of the runs is taken. Exits
with 1 if an assigner takes more than --most of the loop's time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import assigner_loops
import torch

import ms_detr.assigners
from ms_detr.structures import LayerPredictions, Targets


def problem(
    device: str, layers: int, images: int, queries: int, objects: int, classes: int
) -> tuple[list[LayerPredictions], Targets]:
    """Random boxes; a share of the queries lies close to an object, as in training."""
    generator = torch.Generator().manual_seed(0)
    total = objects * images
    center = torch.rand(total, 2, generator=generator)
    size = torch.rand(total, 2, generator=generator) * 0.2 + 0.02
    targets = Targets(
        torch.randint(0, classes, (total,), generator=generator).to(device),
        torch.cat([center, size], 1).to(device),
        (objects,) * images,
        torch.tensor(float(total), device=device),
    )
    predictions = []
    for _ in range(layers):
        choice = torch.randint(0, objects, (images, queries), generator=generator)
        choice += torch.arange(images)[:, None] * objects
        boxes = targets.boxes_G4.cpu()[choice]
        boxes = boxes * (1 + 0.2 * torch.randn(boxes.shape, generator=generator))
        logits = torch.randn(images, queries, classes, generator=generator) - 2
        predictions.append(
            LayerPredictions(logits.to(device), boxes.clamp(0.001, 0.999).to(device))
        )
    return predictions, targets


def seconds(work: Callable[[], None], device: str) -> float:
    """Wall time of one run."""
    if device != "cpu":
        torch.cuda.synchronize()
    begin = time.perf_counter()
    work()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def compare(
    name: str, predictions: list[LayerPredictions], targets: Targets, runs: int, device: str
) -> dict[str, float]:
    """Median milliseconds of the assigner and of the loop, over all layers."""
    assigner = getattr(ms_detr.assigners, name)()
    truth = (targets.labels_G, targets.boxes_G4, targets.counts)

    def ours() -> None:
        for layer in predictions:
            assigner(layer, targets)

    def loop() -> None:
        for layer in predictions:
            assigner_loops.assign(name, layer.logits_BNK, layer.boxes_BN4, *truth)

    times: dict[Callable[[], None], list[float]] = {ours: [], loop: []}
    for work in (ours, loop):
        work()
    for _ in range(runs):
        for work, taken in times.items():
            taken.append(seconds(work, device))
    ours_ms, loop_ms = (1000 * statistics.median(times[work]) for work in (ours, loop))
    return {"assigner_ms": ours_ms, "loop_ms": loop_ms, "times_faster": loop_ms / ours_ms}


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in (("queries", 900), ("objects", 200), ("layers", 6), ("images", 2)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch on the CPU")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--most", type=float, default=0.1, help="share of the loop's time allowed")
    parser.add_argument("--output", type=Path, help="write the numbers there, as JSON")
    options = parser.parse_args(arguments)
    for name in ("queries", "objects", "layers", "images", "classes", "runs", "threads"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be at least 1, got {getattr(options, name)}")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: PyTorch finds no CUDA device here; use --device cpu")
    return options


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    # In training larger tensors than these come and go. Once one has gone, the C library keeps
    # freed memory of such sizes; before, it gives it back and each call waits for new pages.
    torch.ones(30 * 2**18)
    shape = (options.layers, options.images, options.queries, options.objects, options.classes)
    predictions, targets = problem(options.device, *shape)
    print(
        f"{options.queries} queries x {options.objects} objects x {options.layers} layers, "
        f"{options.images} images, {options.classes} classes, float32, {options.device}"
    )
    results = {}
    for name in sorted(assigner_loops.RULES):
        results[name] = row = compare(name, predictions, targets, options.runs, options.device)
        print(
            f"{name:24} {row['assigner_ms']:8.1f} ms   loop {row['loop_ms']:8.1f} ms   "
            f"{row['times_faster']:6.1f} times faster"
        )
    if options.output:
        settings = {key: value for key, value in vars(options).items() if key != "output"}
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(
            json.dumps({"settings": settings, "torch": torch.__version__, "results": results})
        )
    slow = [name for name, row in results.items() if row["times_faster"] * options.most < 1]
    if slow:
        print(f"more than {options.most} of the loop's time: {', '.join(slow)}", file=sys.stderr)
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
