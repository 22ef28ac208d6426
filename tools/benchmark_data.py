"""Data loading: images per second of a worker, what they spend it on, and what training needs.

    python tools/benchmark_data.py [--only boxes] [--images FOLDER] [--quick] [--json FILE.json]

For the recipes of COCO (boxes; boxes and masks) and for large-scale jitter with masks, on generated
photos of 640 x 480 with seven objects, or on the JPEGs of a folder:

- images per second of one worker: CPU time of the mapper alone, so that other work on the machine
  does not count;
- images per second of the loader with 0, 1 and 2 worker processes, by the clock;
- the share of each part: decode, resize, flip and crop, and the rest (boxes, masks, tensors);
- workers that a GPU needs: the images that a step of the published recipe takes (16 on 8 A100 in
  0.5 s) by those of a worker. The configs have 4 workers. With ``--step-seconds`` and
  ``--step-images`` the need is that of another step.

Exits with 1 if 4 workers do not keep up.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

import detectron2.data.transforms as T
import numpy as np
import torch
from benchmarking import Figure, add_arguments, check_arguments, setting, table, write_json
from data_records import generated_records, records_of
from detectron2.config import instantiate
from detectron2.data import detection_utils

from ms_detr.config import load_config
from ms_detr.data import build_train_loader

DATA = Path(__file__).resolve().parent.parent / "configs" / "common" / "data"
RECIPES = {"boxes": "coco", "masks": "coco_mask", "jitter": "lsj"}
WORKERS, GPUS = 4, 8  # of the configs, of the published recipe
PARTS = ("decode", "resize", "flip and crop", "boxes, masks, tensors")


def mapper_figures(name: str, records: list[dict], need: float) -> list[Figure]:
    """CPU seconds of the mapper, part by part, and the workers that a GPU needs."""
    mapper = _mapper(name)
    mapper(records[0])  # imports
    whole, parts = 0.0, dict.fromkeys(PARTS, 0.0)
    for number, record in enumerate(records):
        np.random.seed(number)
        begin = time.process_time()
        mapper(record)
        whole += time.process_time() - begin
        np.random.seed(number)  # the same augmentation once more, bit by bit
        for part, seconds in _split(mapper, record).items():
            parts[part] += seconds
    parts[PARTS[-1]] = max(0.0, whole - sum(parts.values()))
    milliseconds = {f"{part} ms": 1000 * time / len(records) for part, time in parts.items()}
    rate = len(records) / whole
    return [
        Figure(f"{name}: images per second of a worker", rate, "higher", None, "", milliseconds),
        Figure(
            f"{name}: workers that a GPU needs", need / rate, "lower", WORKERS, "workers",
            {"images/s needed": need, "images/s of a worker": rate},
        ),
    ]  # fmt: skip


def _split(mapper: Any, record: dict) -> dict[str, float]:
    begin = time.process_time()
    image = detection_utils.read_image(record["file_name"], format=mapper.image_format)
    parts = {"decode": time.process_time() - begin, "resize": 0.0, "flip and crop": 0.0}
    transforms = mapper.augmentations(T.AugInput(image))
    for transform in transforms.transforms:
        begin = time.process_time()
        image = transform.apply_image(image)
        part = "resize" if isinstance(transform, T.ResizeTransform) else "flip and crop"
        parts[part] += time.process_time() - begin
    return parts


def loader_figure(name: str, records: list[dict], count: int) -> Figure:
    """Images per second of the loader with worker processes, by the clock."""
    arms = {}
    for workers in (0, 1, 2):
        loader = build_train_loader(
            records, mapper=_mapper(name), total_batch_size=2, num_workers=workers
        )
        batches = loader.start(seed=0)
        next(batches)  # workers have started
        begin = time.perf_counter()
        for _ in islice(batches, count // 2):
            pass
        arms[f"{workers} workers images/s"] = count / (time.perf_counter() - begin)
        del batches
    gain = arms["2 workers images/s"] / arms["1 workers images/s"]
    return Figure(f"{name}: loader, 2 workers / 1", gain, "higher", None, "times", arms)


def _mapper(name: str) -> Any:
    return instantiate(load_config(DATA / f"{RECIPES[name]}.py").dataloader.train.mapper)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--only", choices=RECIPES, help="one recipe")
    parser.add_argument("--images", type=Path, help="a folder of JPEGs in place of generated ones")
    parser.add_argument("--step-seconds", type=float, default=0.5, help="time of a training step")
    parser.add_argument("--step-images", type=float, default=16 / GPUS, help="images of one GPU")
    options = parser.parse_args(arguments)
    check_arguments(parser, options)
    if not (options.step_seconds > 0 and options.step_images > 0):
        parser.error("--step-seconds and --step-images must be above 0")
    if options.images is not None and not any(options.images.glob("*.jpg")):
        parser.error(f"--images: {options.images} has no .jpg file")
    torch.set_num_threads(1)  # as in a worker
    conditions = setting(1, 1, "cpu")
    print(", ".join(f"{key} {value}" for key, value in conditions.items()))
    count, figures = 8 if options.quick else 80, []
    need = options.step_images / options.step_seconds
    with tempfile.TemporaryDirectory() as folder:
        if options.images is None:
            records = generated_records(Path(folder), min(count, 40))
        else:
            records = records_of(sorted(options.images.glob("*.jpg"))[:count])
        for name in [options.only] if options.only else RECIPES:
            print(f"measuring {name}", file=sys.stderr)
            repeated = [records[index % len(records)] for index in range(count)]
            figures += mapper_figures(name, repeated, need)
            figures.append(loader_figure(name, records, count))
    print(table(figures))
    if options.json:
        write_json(options.json, figures, conditions)
    return int(any(figure.reached is False for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
