"""The long runs of tools/benchmark_memory.py: a training that is watched, a generated evaluation."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarking import peak_bytes
from detectron2.engine import HookBase
from detectron2.evaluation import COCOEvaluator, DatasetEvaluator
from detectron2.structures import Boxes, Instances

from ms_detr.config import load_config
from ms_detr.data import register_coco_json
from ms_detr.data.shapes import generate_shapes
from ms_detr.engine import Trainer, do_train, prepare_dataset
from ms_detr.evaluation import CocoEvaluator, has_fast_evaluation

MIB = 2**20
CONFIGS = Path(__file__).resolve().parent.parent / "configs"
DETECTIONS, CLASSES, OBJECTS, SIDE = 300, 80, 7, 640
SAMPLES = 200

# So small that two thousand iterations take a minute or two on one core.
TINY = (
    "model.neck.embed_dim=32",
    "model.encoder.feedforward_dim=64",
    "model.encoder.num_heads=4",
    "model.queries.num_queries=20",
    "model.neck.num_groups=8",
    "dataloader.train.total_batch_size=2",
    "dataloader.train.num_workers=2",
    "train.device=cpu",
    "train.log_period=20",
)


def resident_mib(process: int | str = "self") -> float:
    """Memory of a process that is its own; 0 if it is gone. Shared pages count a part each."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def children() -> list[int]:
    """The processes that this one started."""
    me = os.getpid()
    tasks = Path(f"/proc/{me}/task").glob("*/children")
    return [int(number) for task in tasks for number in task.read_text().split()]


class MemorySampler(HookBase):
    """Notes (iteration, MiB of the process, MiB of its children) every ``period`` iterations."""

    def __init__(self, period: int) -> None:
        self.period = period
        self.samples: list[tuple[int, float, float]] = []

    def after_step(self) -> None:
        if (self.trainer.iter + 1) % self.period == 0:
            workers = sum(resident_mib(number) for number in children())
            self.samples.append((self.trainer.iter + 1, resident_mib(), workers))


def train_and_sample(folder: Path, iterations: int) -> list[tuple[int, float, float]]:
    """Trains a tiny detector, as train_net.py does, and samples its memory."""
    logging.getLogger("ms_detr").setLevel(logging.WARNING)
    generate_shapes(folder / "data", num_train=64, num_val=8, image_size=64, seed=0)
    overrides = [
        *TINY,
        f"dataset.root={folder / 'data'}",
        f"train.output_dir={folder / 'output'}",
        f"train.max_iter={iterations}",
        f"lr_multiplier.num_updates={iterations}",
        f"train.eval_period={iterations // 8}",
        f"train.checkpointer.period={iterations // 8}",
    ]
    cfg = load_config(CONFIGS / "demo" / "shapes.py", overrides)
    prepare_dataset(cfg)
    (folder / "output").mkdir()
    sampler = MemorySampler(max(1, iterations // SAMPLES))
    register = Trainer.register_hooks

    def with_sampler(trainer: Trainer, hooks: list[HookBase]) -> None:
        register(trainer, hooks)
        if not sampler.samples and sampler not in trainer._hooks:
            register(trainer, [sampler])

    Trainer.register_hooks = with_sampler
    try:
        do_train(cfg)
    finally:
        Trainer.register_hooks = register
    return sampler.samples


def slope(places: Sequence[float], values: Sequence[float]) -> float:
    """Of the straight line of least squares."""
    return float(np.polyfit(places, values, 1)[0])


def write_truth(folder: Path, images: int) -> Path:
    """A json of ``images`` images with 7 boxes each, of 80 classes."""
    random = np.random.default_rng(0)
    annotations = []
    for number in range(images * OBJECTS):
        width, height = random.uniform(10, 300, 2).round(2).tolist()
        x, y = random.uniform(0, SIDE - 300, 2).round(2).tolist()
        annotations.append(
            {
                "id": number + 1, "image_id": number // OBJECTS, "iscrowd": 0,
                "category_id": int(random.integers(CLASSES)) + 1,
                "bbox": [x, y, width, height], "area": width * height,
            }
        )  # fmt: skip
    content = {
        "images": [
            {"id": number, "file_name": f"{number}.jpg", "width": SIDE, "height": SIDE}
            for number in range(images)
        ],
        "annotations": annotations,
        "categories": [{"id": i + 1, "name": f"class {i + 1}"} for i in range(CLASSES)],
    }
    path = folder / "truth.json"
    path.write_text(json.dumps(content))
    return path


def detections_of(image: int) -> Instances:
    """The same 300 random detections of an image in every process; a few classes have most."""
    generator = torch.Generator().manual_seed(image)
    corner = torch.rand(DETECTIONS, 2, generator=generator) * (SIDE - 300)
    extent = 10 + torch.rand(DETECTIONS, 2, generator=generator) * 290
    spread = torch.rand(DETECTIONS, generator=generator) ** 2 * 30 + image
    found = Instances((SIDE, SIDE))
    found.pred_boxes = Boxes(torch.cat([corner, corner + extent], 1))
    found.scores = torch.rand(DETECTIONS, generator=generator).sort(descending=True).values
    found.pred_classes = spread.long() % CLASSES
    return found


def evaluate_generated(folder: Path, who: str, images: int) -> dict[str, Any]:
    """Bytes and seconds of an evaluation by "ours" or "detectron2", and its numbers."""
    name = register_coco_json("generated", write_truth(folder, images), folder)
    evaluator: DatasetEvaluator
    if who == "ours":
        evaluator = CocoEvaluator(name, distributed=False)
    else:
        evaluator = COCOEvaluator(
            name, ("bbox",), distributed=False, use_fast_impl=has_fast_evaluation()
        )
    results: dict[str, Any] = {}

    def work() -> None:
        evaluator.reset()
        for image in range(images):
            evaluator.process([{"image_id": image}], [{"instances": detections_of(image)}])
        results.update(evaluator.evaluate()["bbox"])

    begin = time.perf_counter()
    peak = peak_bytes(work)
    common = {key: value for key, value in results.items() if not key.startswith("AR")}
    return {"bytes": peak, "seconds": time.perf_counter() - begin, "results": common}
