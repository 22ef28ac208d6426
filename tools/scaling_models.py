"""The jobs of tools/benchmark_scaling.py: a training step and an inference of given sizes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from benchmarking import peak_bytes
from detectron2.config import instantiate
from detectron2.structures import Boxes, Instances
from torch import nn

from ms_detr.config import load_config

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
MIB = 2**20

Job = Callable[[], object]


@dataclass(frozen=True)
class Sizes:
    """What comes in: queries, side of the square images, objects of each, and images."""

    queries: int = 100
    side: int = 320
    objects: int = 7
    images: int = 2

    def shrunk(self, varied: str) -> Sizes:
        """Small images and few queries, but for what is varied; for a quick run."""
        small = {"queries": 30, "side": 96}
        return replace(self, **{key: value for key, value in small.items() if key != varied})

    def text(self) -> str:
        """For a command line."""
        return ",".join(str(value) for value in asdict(self).values())

    @classmethod
    def of(cls, text: str) -> Sizes:
        """What `text` wrote."""
        return cls(*(int(number) for number in text.split(",")))


def build(sizes: Sizes, device: str) -> nn.Module:
    """The small model with so many queries; the image has to have as many tokens."""
    overrides = (f"model.queries.num_queries={sizes.queries}",)
    cfg = load_config(CONFIGS / "models" / "ms_detr_small.py", overrides)
    torch.manual_seed(0)
    return instantiate(cfg.model).to(device)


def batch_of(sizes: Sizes, num_classes: int) -> list[dict]:
    """Random images with random boxes."""
    generator = torch.Generator().manual_seed(0)
    items = []
    for _ in range(sizes.images):
        corner, extent = torch.rand(2, sizes.objects, 2, generator=generator).unbind(0)
        corner = corner * 0.7 * sizes.side
        extent = (0.05 + 0.25 * extent) * sizes.side
        instances = Instances((sizes.side, sizes.side))
        instances.gt_boxes = Boxes(torch.cat([corner, corner + extent], 1))
        instances.gt_classes = torch.randint(num_classes, (sizes.objects,), generator=generator)
        shape = (3, sizes.side, sizes.side)
        image = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        items.append({"image": image, "instances": instances})
    return items


def make_step(sizes: Sizes, device: str) -> Job:
    """A training step: forward, backward, update."""
    detector = build(sizes, device).train()
    optimizer = torch.optim.AdamW(detector.parameters(), 1e-4)
    batch = batch_of(sizes, detector.num_classes)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        sum(detector(batch).values()).backward()
        optimizer.step()

    return step


def make_inference(sizes: Sizes, device: str) -> Job:
    """Images to detections."""
    detector = build(sizes, device).eval()
    batch = [{"image": item["image"]} for item in batch_of(sizes, detector.num_classes)]

    def infer() -> None:
        with torch.inference_mode():
            detector(batch)

    return infer


WORK: dict[str, Callable[[Sizes, str], Job]] = {"step": make_step, "inference": make_inference}


def peak_of(work: str, sizes: Sizes, device: str) -> int:
    """Most memory in bytes of a job beyond what is held before it.

    A tiny one runs before it, so that what a process loads once does not count.
    """
    make = WORK[work]
    make(Sizes(queries=10, side=64, images=1), device)()
    job = make(sizes, device)
    if device == "cpu":
        return peak_bytes(job)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    job()
    return torch.cuda.max_memory_allocated() - before


def peaks_of(jobs: Sequence[tuple[str, Sizes]], device: str) -> list[int]:
    """`peak_of` of each job, on a CPU in a process of its own, which has to be forked from one that
    has not computed anything yet."""
    if device == "cuda":
        return [peak_of(work, sizes, device) for work, sizes in jobs]
    with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
        return pool.starmap(peak_of, [(*job, device) for job in jobs], chunksize=1)
