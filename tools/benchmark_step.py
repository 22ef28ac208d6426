"""Time and peak memory of a training step: what a method, or a part of a model, costs.

    python tools/benchmark_step.py [--only methods] [--quick] [--json FILE.json] [--plot FILE.png]

A step is forward, backward and the optimizer's update, with initial weights and random images: 2
images with 7 objects each, ResNet-50, 300 queries, and as many more as the method trains with. The
models of a comparison take turns in one process. Memory is that of all tensors at the same time,
weights and optimizer included, counted allocation by allocation: processes, as the system sees
them, differ by as much as a method costs. Exits with 1 if a goal is missed. ``--quick`` takes
smaller models.

"official form" is our model with operator, dropout, feed-forward, self-attention, frozen batch
norm and optimizer as the published code has them (tools/step_official.py); everything else is ours
in both arms. "levers" takes them one by one. "collaborative" has auxiliary heads (Co-DETR), alone
and with mixed supervision; together these are to cost at most 1.05 times what they cost apart.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from benchmarking import (
    Figure,
    add_arguments,
    check_arguments,
    ratio,
    setting,
    table,
    take_turns,
    write_json,
)
from detectron2.config import instantiate
from detectron2.structures import BitMasks, Boxes, Instances
from step_groups import group_figures
from step_models import COMPARISONS, QUICK, UNION_GOAL, Comparison, Model
from step_plot import draw

from ms_detr.config import load_config
from ms_detr.engine.meters import DeviceMemory, HostMemory
from ms_detr.host_memory import keep_freed_memory

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
IMAGES, OBJECTS = 2, 7
MIB = 2**20


def batch_of(num_classes: int, size: tuple[int, int]) -> list[dict]:
    """The same random images for every model: objects are ellipses in random boxes."""
    height, width = size
    generator = torch.Generator().manual_seed(0)
    y, x = torch.arange(height)[:, None] + 0.5, torch.arange(width) + 0.5
    items = []
    for _ in range(IMAGES):
        size_2 = torch.tensor([width, height])
        half_G2 = (0.05 + 0.15 * torch.rand(OBJECTS, 2, generator=generator)) * size_2
        center_G2 = half_G2 + torch.rand(OBJECTS, 2, generator=generator) * (size_2 - 2 * half_G2)
        (cx, cy), (rx, ry) = center_G2.T[..., None, None], half_G2.T[..., None, None]
        instances = Instances((height, width))
        instances.gt_boxes = Boxes(torch.cat([center_G2 - half_G2, center_G2 + half_G2], 1))
        instances.gt_classes = torch.randint(0, num_classes, (OBJECTS,), generator=generator)
        instances.gt_masks = BitMasks(((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1)
        image = torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)
        items.append({"image": image, "instances": instances})
    return items


def make_step(model: Model, size: tuple[int, int], device: str) -> Callable[[], object]:
    """A training step of a model, with everything that it needs."""
    cfg = load_config(CONFIGS / f"{model.file}.py", model.overrides)
    torch.manual_seed(0)
    detector = instantiate(cfg.model).to(device).train()
    model.form(detector)
    # Models without a recipe have no optimizer of their own.
    optim = cfg.get("optimizer") or load_config(CONFIGS / "common" / "optim.py").AdamW
    optim.params.model = detector
    optimizer = instantiate(optim)
    batch = batch_of(detector.num_classes, size)

    def step() -> object:
        optimizer.zero_grad(set_to_none=True)
        losses = detector(batch)
        sum(losses.values()).backward()
        optimizer.step()
        return losses

    return step


def peak_of(model: Model, size: tuple[int, int], device: str) -> float:
    """Most MiB of tensors during a step, with weights and optimizer."""
    gc.collect()  # what a model before left behind is not to be freed while this one is counted
    meter = HostMemory() if device == "cpu" else DeviceMemory()
    meter.mark()
    step = make_step(model, size, device)
    step()
    meter.mark()
    step()  # now with averages of the optimizer
    meter.mark()
    return meter.finish()[1]


def compare(title: str, options: argparse.Namespace) -> list[Figure]:
    """Time and memory of every model against the base of the comparison."""
    comparison = comparisons(options)[title]
    print(f"measuring {title}: {', '.join(comparison.models)}", file=sys.stderr)
    if comparison.keeps_memory and options.device == "cpu":
        keep_freed_memory()
    seconds = take_turns(
        {
            name: make_step(model, comparison.size, options.device)
            for name, model in comparison.models.items()
        },
        options.runs,
        device=options.device,
    )
    peaks = {
        name: peak_of(model, comparison.size, options.device)
        for name, model in comparison.models.items()
    }
    base, figures = comparison.base, []
    for name, model in comparison.models.items():
        if name != base:
            figures.append(
                ratio(
                    f"{name} / {base}: time of a step", seconds, name, base,
                    goal=model.time, better="lower",
                )
            )  # fmt: skip
            arms = {f"{arm} MiB": peaks[arm] for arm in (name, base)}
            memory = peaks[name] / peaks[base]
            figures.append(
                Figure(
                    f"{name} / {base}: peak memory", memory, "lower", model.memory, "times", arms
                )
            )
    milliseconds = {name: 1000 * value for name, value in seconds.items()}
    for quantity, unit, sizes in (
        ("time of a step", "ms", milliseconds),
        ("peak memory", "MiB", peaks),
    ):
        for union, parts in comparison.unions.items():
            figures.append(union_figure(quantity, unit, sizes, base, union, parts))
    return figures


def union_figure(
    quantity: str,
    unit: str,
    sizes: Mapping[str, float],
    base: str,
    union: str,
    parts: Sequence[str],
) -> Figure:
    """What a union of methods costs beyond the base / the sum of what each of them does.

    Without a value where they cost nothing: no ratio would say anything then.
    """
    together = sum(sizes[part] - sizes[base] for part in parts)
    value = (sizes[union] - sizes[base]) / together if together > 0 else None
    return Figure(
        f"{union} / {' and '.join(parts)}: {quantity} beyond {base}",
        value,
        "lower",
        UNION_GOAL,
        "times",
        {f"{arm} {unit}": sizes[arm] for arm in (union, *parts, base)},
    )


def comparisons(options: argparse.Namespace) -> dict[str, Comparison]:
    """What is measured, by its name on the command line."""
    return QUICK if options.quick else COMPARISONS


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument(
        "--only", choices=[*COMPARISONS, "groups"], help="one comparison instead of all"
    )
    options = parser.parse_args(arguments)
    check_arguments(parser, options)
    torch.set_num_threads(options.threads)
    conditions = setting(options.threads, options.runs, options.device)
    print(", ".join(f"{key} {value}" for key, value in conditions.items()))
    titles = [options.only] if options.only else [*COMPARISONS, "groups"]
    figures = []
    for title in titles:
        if title == "groups":
            size, queries = ((256, 320), 30) if options.quick else ((512, 672), 300)
            figures += group_figures(size, queries, options.runs, options.device)
        else:
            figures += compare(title, options)
    print(table(figures))
    if options.json:
        write_json(options.json, figures, conditions)
    if options.plot:
        draw(options.plot, figures, f"{conditions['device']}, {options.threads} threads")
    return int(any(figure.reached is False for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
