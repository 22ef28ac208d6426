"""The long runs of tools/benchmark_memory.py: a watched training, a generated evaluation."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarking import peak_bytes
from detectron2.evaluation import COCOEvaluator, DatasetEvaluator
from detectron2.structures import Boxes, Instances

from ms_detr.data import register_coco_json
from ms_detr.data.shapes import generate_shapes
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
)


def resident_mib(process: int) -> float:
    """Memory of a process, of shared memory its part; 0 if the process is gone.

    Without files that it maps: their share depends on what else runs.
    """
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    kept = ("Anonymous:", "Pss_Shmem:")
    return sum(int(line.split()[1]) for line in lines if line.startswith(kept)) / 1024


def children_of(process: int) -> list[int]:
    """The processes that another one started; none if it is gone."""
    try:
        tasks = list(Path(f"/proc/{process}/task").glob("*/children"))
        return [int(number) for task in tasks for number in task.read_text().split()]
    except OSError:
        return []


def train_and_sample(folder: Path, iterations: int) -> list[tuple[int, float, float]]:
    """Trains a tiny detector with train_net.py and samples its memory from outside.

    Returns:
        (iteration, MiB of the process, MiB of its data workers), at every line of the metrics.

    Raises:
        RuntimeError: the training failed; with the end of what it said.
    """
    generate_shapes(folder / "data", num_train=64, num_val=8, image_size=64, seed=0)
    output, log = folder / "output", folder / "said.txt"
    command = [
        sys.executable, str(CONFIGS.parent / "train_net.py"), "--num-gpus", "0",
        "--config-file", str(CONFIGS / "demo" / "shapes.py"), *TINY,
        f"dataset.root={folder / 'data'}", f"train.output_dir={output}",
        f"train.max_iter={iterations}", f"train.log_period={max(1, iterations // SAMPLES)}",
        f"train.eval_period={iterations // 8}", f"train.checkpointer.period={iterations // 8}",
    ]  # fmt: skip
    samples: list[tuple[int, float, float]] = []
    with log.open("w") as said:
        run = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
        try:
            while run.poll() is None:
                time.sleep(0.05)
                iteration = _last_iteration(output / "metrics.json")
                newest = samples[-1][0] if samples else 0
                if iteration is not None and newest < iteration < iterations:  # then it ends
                    workers = sum(resident_mib(number) for number in children_of(run.pid))
                    samples.append((iteration, resident_mib(run.pid), workers))
        finally:
            run.kill()
            run.wait()
    if run.returncode:
        raise RuntimeError(f"the training failed:\n{log.read_text()[-2000:]}")
    return [sample for sample in samples if sample[1] and sample[2]]  # not while it ends


def _last_iteration(metrics: Path) -> int | None:
    if not metrics.exists():
        return None
    lines = metrics.read_text().splitlines()
    return json.loads(lines[-1])["iteration"] + 1 if lines else None


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
