"""Time and peak memory of a training step: what a part of a model costs.

    python tools/benchmark_step.py [--quick] [--json FILE.json] [--device cuda]

A step is forward, backward and the optimizer's update of the published recipe, with initial weights
and random images: 2 images of 256 x 320 pixels with 7 objects each, 300 queries, ResNet-50. The
models of a comparison take turns in one process; their memory is that of a process each, with
weights and optimizer. Exits with 1 if a goal is missed; ``--quick`` measures small models only.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from benchmarking import (
    Figure,
    add_arguments,
    check_arguments,
    in_child,
    peak_bytes,
    ratio,
    setting,
    table,
    take_turns,
    write_json,
)
from detectron2.config import instantiate
from detectron2.structures import BitMasks, Boxes, Instances

from ms_detr.config import load_config

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
HEIGHT, WIDTH, IMAGES, OBJECTS = 256, 320, 2, 7


@dataclass(frozen=True)
class Comparison:
    """Two models, and how much more one may cost than the other.

    Attributes:
        name: what is compared.
        model, base: files below ``configs/models``.
        time, memory: goals for model / base; None for numbers that are only told.
        quick: measure it with ``--quick``, and nothing else.
    """

    name: str
    model: str
    base: str
    time: float | None = None
    memory: float | None = None
    quick: bool = False


COMPARISONS = (
    Comparison("masks", "ms_detr_mask", "ms_detr", time=1.35, memory=1.30),
    Comparison("masks by attention", "ms_detr_mask_attention", "ms_detr"),
    Comparison("masks, small", "ms_detr_mask_small", "ms_detr_small", quick=True),
)


def batch_of(num_classes: int) -> list[dict]:
    """The same random images for every model: objects are ellipses in random boxes."""
    generator = torch.Generator().manual_seed(0)
    y, x = torch.arange(HEIGHT)[:, None] + 0.5, torch.arange(WIDTH) + 0.5
    items = []
    for _ in range(IMAGES):
        size_2 = torch.tensor([WIDTH, HEIGHT])
        half_G2 = (0.05 + 0.15 * torch.rand(OBJECTS, 2, generator=generator)) * size_2
        center_G2 = half_G2 + torch.rand(OBJECTS, 2, generator=generator) * (size_2 - 2 * half_G2)
        (cx, cy), (rx, ry) = center_G2.T[..., None, None], half_G2.T[..., None, None]
        instances = Instances((HEIGHT, WIDTH))
        instances.gt_boxes = Boxes(torch.cat([center_G2 - half_G2, center_G2 + half_G2], 1))
        instances.gt_classes = torch.randint(0, num_classes, (OBJECTS,), generator=generator)
        instances.gt_masks = BitMasks(((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1)
        image = torch.randint(0, 256, (3, HEIGHT, WIDTH), generator=generator, dtype=torch.uint8)
        items.append({"image": image, "instances": instances})
    return items


def make_step(name: str, device: str) -> Callable[[], object]:
    """A training step of a model, with everything that it needs."""
    cfg = load_config(CONFIGS / "models" / f"{name}.py")
    optim = load_config(CONFIGS / "common" / "optim.py").AdamW
    torch.manual_seed(0)
    model = instantiate(cfg.model).to(device).train()
    optim.params.model = model
    optimizer = instantiate(optim)
    batch = batch_of(model.num_classes)

    def step() -> object:
        optimizer.zero_grad(set_to_none=True)
        losses = model(batch)
        sum(losses.values()).backward()
        optimizer.step()
        return losses

    return step


def peak_of(name: str, device: str) -> int:
    """Most memory in bytes of building a model and two steps; the second has optimizer states."""

    def work() -> None:
        step = make_step(name, device)
        step()
        step()

    if device == "cpu":
        return peak_bytes(work)
    torch.cuda.reset_peak_memory_stats()
    work()
    return torch.cuda.max_memory_allocated()


def compare(comparison: Comparison, options: argparse.Namespace) -> list[Figure]:
    """Time and memory of a model against its base."""
    model, base = comparison.model, comparison.base
    print(f"measuring: {model} against {base}", file=sys.stderr)
    arms = {name: make_step(name, options.device) for name in (model, base)}
    seconds = take_turns(arms, options.runs, device=options.device)
    del arms
    common = ["--threads", str(options.threads), "--device", options.device]
    environment = {"OMP_NUM_THREADS": str(options.threads)}
    peaks = {
        name: in_child(__file__, ["--peak-of", name, *common], environment)
        for name in (model, base)
    }
    time = ratio(
        f"{comparison.name}: time of a step", seconds, model, base,
        goal=comparison.time, better="lower",
    )  # fmt: skip
    memory = Figure(
        f"{comparison.name}: peak memory", peaks[model] / peaks[base], "lower",
        comparison.memory, "times", {f"{name} MiB": peak / 2**20 for name, peak in peaks.items()},
    )  # fmt: skip
    return [time, memory]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--peak-of", metavar="MODEL", help="print the peak memory of one model")
    options = parser.parse_args(arguments)
    check_arguments(parser, options)
    if options.plot:
        parser.error("--plot: there is nothing to draw; use --json")
    torch.set_num_threads(options.threads)
    if options.peak_of:
        print(json.dumps(peak_of(options.peak_of, options.device)))
        return 0
    conditions = setting(options.threads, options.runs, options.device)
    print(", ".join(f"{key} {value}" for key, value in conditions.items()))
    chosen = [comparison for comparison in COMPARISONS if comparison.quick >= options.quick]
    figures = [figure for comparison in chosen for figure in compare(comparison, options)]
    print(table(figures))
    if options.json:
        write_json(options.json, figures, conditions)
    return 1 if any(figure.reached is False for figure in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
