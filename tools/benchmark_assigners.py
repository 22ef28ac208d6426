"""Time of the one-to-many assigners against loops over images and objects.

    python tools/benchmark_assigners.py [--device cuda] [--json FILE.json]

Both do the same work on the same predictions, in turns; the median of the runs is taken.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import assigner_loops
import torch
from benchmarking import LEAST_RUNS, Figure, ratio, setting, table, take_turns, write_json

import ms_detr.assigners
from ms_detr.structures import LayerPredictions, Targets

GOAL = 10.0  # at most a tenth of the time of the loops


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


def compare(
    name: str, predictions: list[LayerPredictions], targets: Targets, runs: int, device: str
) -> Figure:
    """Time of the loops over that of the assigner, over all layers."""
    assigner = getattr(ms_detr.assigners, name)()
    truth = (targets.labels_G, targets.boxes_G4, targets.counts)

    def ours() -> None:
        for layer in predictions:
            assigner(layer, targets)

    def loops() -> None:
        for layer in predictions:
            assigner_loops.assign(name, layer.logits_BNK, layer.boxes_BN4, *truth)

    seconds = take_turns({"ours": ours, "loops": loops}, runs, device=device)
    return ratio(f"{name}: loops / ours", seconds, "loops", "ours", goal=GOAL)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in (("queries", 900), ("objects", 200), ("layers", 6), ("images", 2)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch on the CPU")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args(arguments)
    for name in ("queries", "objects", "layers", "images", "classes", "threads"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be at least 1, got {getattr(options, name)}")
    if options.runs < LEAST_RUNS:
        parser.error(f"--runs must be at least {LEAST_RUNS}, got {options.runs}")
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
    figures = [
        compare(name, predictions, targets, options.runs, options.device)
        for name in sorted(assigner_loops.RULES)
    ]
    print(table(figures))
    if options.json:
        write_json(options.json, figures, setting(options.threads, options.runs, options.device))
    return 0


if __name__ == "__main__":
    sys.exit(main())
