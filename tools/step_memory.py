"""How much memory a training step takes: what decides whether it fits a card.

    python tools/step_memory.py CONFIG [--size 800 1333] [--images 1] [--bfloat16]
        [--recompute encoder.layers decoder.layers --] [KEY=VALUE ...]

The step is computed on the CPU with random images of seven objects; every tensor that it allocates
is counted, as a GPU would have to hold it. To that come weights, the optimizer's two averages of
them (computed), and on a GPU about 0.5 GB for CUDA itself and some hundred MB of workspaces and
rounding (neither is known here). ``--recompute`` names what ``train.activation_checkpointing``
would, ``--bfloat16`` is ``train.amp.enabled=True``. A step at full size takes a minute or two of a
core and about as much memory as it tells.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import torch
from benchmark_step import batch_of
from benchmarking import Figure, table
from detectron2.config import instantiate

from ms_detr.config import load_config
from ms_detr.engine import recompute_parts
from ms_detr.engine.meters import HostMemory

MIB = 2**20


def step_memory(
    config: str, size: tuple[int, int], images: int, overrides: list[str],
    recompute: Sequence[str] = (), *, bfloat16: bool = False,
) -> Figure:  # fmt: skip
    """MiB of a whole step: weights, averages, and what the step allocates at most."""
    cfg = load_config(config, overrides)
    detector = instantiate(cfg.model).train()
    recompute_parts(detector, list(recompute))
    batch = (batch_of(detector.num_classes, size) * images)[:images]
    weights = sum(p.numel() * p.element_size() for p in detector.parameters()) / MIB
    averages = 2 * sum(p.numel() for p in detector.parameters() if p.requires_grad) * 4 / MIB
    meter = HostMemory()
    meter.mark()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
        losses = detector(batch)
    meter.mark()
    sum(losses.values()).backward()
    meter.mark()
    forward, backward = meter.finish()
    arms = {
        "weights MiB": weights,
        "averages MiB": averages,
        "forward MiB": forward,
        "backward and gradients MiB": backward,
    }
    name = f"{images} x {size[0]} x {size[1]}"
    return Figure(name, weights + averages + max(forward, backward), "lower", None, "MiB", arms)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="a lazy config with a model")
    parser.add_argument("--size", type=int, nargs=2, default=(800, 1333), metavar=("H", "W"))
    parser.add_argument("--images", type=int, default=1, help="of a step (of a part of it)")
    parser.add_argument("--recompute", nargs="+", default=[], metavar="PART", help="its parts")
    parser.add_argument("--bfloat16", action="store_true", help="mixed precision")
    parser.add_argument("overrides", nargs="*", help="of the config")
    options = parser.parse_intermixed_args(arguments)
    if min(*options.size, options.images) < 1:
        parser.error("--size and --images must be at least 1")
    torch.manual_seed(0)
    size = (options.size[0], options.size[1])
    figure = step_memory(
        options.config, size, options.images, options.overrides,
        options.recompute, bfloat16=options.bfloat16,
    )  # fmt: skip
    print(table([figure]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
