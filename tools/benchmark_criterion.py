"""Time of matching and losses against loops in the manner of the published code.

    python tools/benchmark_criterion.py [--quick] [--json FILE.json] [--device cuda]

Mixed supervision: one-to-one and one-to-many pairs of 300 queries in 6 layers, 2 images, 80
classes; with and without the proposals of 17,821 tokens.  Both arms get the same predictions (heads
are no part of it), take turns in one process, and are compared before they are timed; medians are
taken.  What is counted are the calls of PyTorch's operators, views included, and how often the host
waits for the device.  Exits with 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import criterion_loops
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
from calls import calls_of
from detectron2.config import LazyConfig, instantiate
from torch import Tensor

from ms_detr.structures import DecoderStates, LayerPredictions, Proposals, Targets
from ms_detr.structures.query_groups import PRIMARY
from ms_detr.supervision import SupervisionSet, TrainingOutputs

CONFIG = Path(__file__).resolve().parent.parent / "configs/models/ms_detr.py"
IMAGES, QUERIES, LAYERS, CLASSES, TOKENS = 2, 300, 6, 80, 17821
# Objects in an image, and how many times slower the loops are to be.
GOALS = {7: 4.0, 30: 2.5}
CALLS = 600
Problem = tuple[dict[str, TrainingOutputs], Targets]


def supervisions(*, proposals: bool) -> SupervisionSet:
    """Those of MS-DETR, without what stands before the heads."""
    node = LazyConfig.load(str(CONFIG)).model.supervisions
    node.mixed.branch = None
    if not proposals:
        del node.proposals
    return instantiate(node)


def problem(
    objects: int,
    *,
    device: str = "cpu",
    images: int = IMAGES,
    queries: int = QUERIES,
    layers: int = LAYERS,
    tokens: int = TOKENS,
    dtype: torch.dtype = torch.float32,
) -> Problem:
    """Random predictions of boxes close to the objects, as in training."""
    generator = torch.Generator().manual_seed(0)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=dtype)

    total = images * objects
    true = torch.cat([0.2 + 0.6 * uniform(total, 2), 0.05 + 0.25 * uniform(total, 2)], 1)
    labels = torch.randint(0, CLASSES, (total,), generator=generator)

    def boxes(count: int) -> Tensor:
        first = torch.arange(images)[:, None] * objects
        near = torch.randint(0, max(objects, 1), (images, count), generator=generator) + first
        found = true[near] if objects else uniform(images, count, 4)
        return (found * (0.7 + 0.6 * uniform(images, count, 4))).clamp(0.001, 0.999).to(device)

    def logits(count: int) -> Tensor:
        return (6 * uniform(images, count, CLASSES) - 6).to(device)

    def given() -> LayerPredictions:
        return LayerPredictions(logits(queries).requires_grad_(), boxes(queries).requires_grad_())

    taps: Any = {tap: tuple(given() for _ in range(layers)) for tap in ("output", "internal")}
    anything = tuple(torch.zeros(0) for _ in range(layers))
    proposals = Proposals(
        logits(tokens).requires_grad_(),
        boxes(tokens).requires_grad_(),
        boxes(tokens),
        torch.ones(images, tokens, dtype=torch.bool, device=device),
    )
    number = torch.tensor(float(max(total, 1)), dtype=dtype, device=device)
    targets = Targets(labels.to(device), true.to(device), (objects,) * images, number)
    outputs = TrainingOutputs(DecoderStates(taps, anything), proposals, ready)  # type: ignore[arg-type]
    return {PRIMARY: outputs}, targets


def ready(states: LayerPredictions, *_: object, **__: object) -> LayerPredictions:
    """In the place of the heads: what they are given are predictions already."""
    return states


def compare(ours: dict[str, Tensor], loops: dict[str, Tensor]) -> None:
    """Raises RuntimeError unless both arms compute the same."""
    if list(ours) != list(loops):
        raise RuntimeError(f"other losses: {sorted(set(ours) ^ set(loops))}")
    for name, loss in ours.items():
        if not torch.allclose(loss, loops[name], rtol=1e-4, atol=1e-6):
            raise RuntimeError(f"{name} is {loss.item()}, the loops have {loops[name].item()}")


def figures_of(objects: int, options: argparse.Namespace, *, proposals: bool) -> list[Figure]:
    """Times and counts with so many objects in an image."""
    teachers = supervisions(proposals=proposals)
    outputs, targets = problem(objects, device=options.device)
    arms: dict[str, Callable[[], dict[str, Tensor]]] = {
        "ours": lambda: teachers(outputs, targets),
        "loops": lambda: criterion_loops.criterion(teachers, outputs, targets),
    }
    compare(*(work() for work in arms.values()))
    what = f"{objects} objects, {'with' if proposals else 'without'} proposals"
    seconds = take_turns(arms, options.runs, device=options.device)
    figures = [ratio(f"{what}: loops / ours", seconds, "loops", "ours", goal=GOALS[objects])]
    both = {name: lambda work=work: sum(work().values()).backward() for name, work in arms.items()}
    seconds = take_turns(both, options.runs, device=options.device)
    figures.append(
        ratio(f"{what}, with gradients: loops / ours", seconds, "loops", "ours", goal=None)
    )
    if proposals:
        figures += counts(what, teachers, objects)
    return figures


def counts(what: str, teachers: SupervisionSet, objects: int) -> list[Figure]:
    """Calls and waits; ours on a device without values, which nobody can look at unnoticed."""
    ours = problem(objects, device="meta")
    loops = problem(objects)
    calls = {
        "ours": calls_of(lambda: teachers(*ours)),
        "loops": calls_of(lambda: criterion_loops.criterion(teachers, *loops)),
    }
    waits = {name: float(count.waits) for name, count in calls.items()}
    number = {name: float(count.all) for name, count in calls.items()}
    return [
        Figure(f"{what}: waits of the host", waits["ours"], "lower", 1, "a step", waits),
        Figure(f"{what}: calls of operators", number["ours"], "lower", CALLS, "a step", number),
    ]


def measure(options: argparse.Namespace) -> list[Figure]:
    """All figures."""
    figures = []
    for objects in (7,) if options.quick else GOALS:
        for proposals in (False, True):
            figures += figures_of(objects, options, proposals=proposals)
    return figures


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    options = parser.parse_args(arguments)
    check_arguments(parser, options)
    if options.plot:
        parser.error("--plot: there is nothing to draw")
    torch.set_num_threads(options.threads)
    # In training larger tensors than these come and go. Once one has gone, the C library keeps
    # freed memory of such sizes; before, it gives it back and each call waits for new pages.
    torch.ones(30 * 2**18)
    conditions = setting(options.threads, options.runs, options.device)
    figures = measure(options)
    print(table(figures))
    if options.json:
        write_json(options.json, figures, conditions)
    return 1 if any(figure.reached is False for figure in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
