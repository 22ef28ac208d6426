#!/usr/bin/env python
"""Draws what a trained model sees: ground truth beside predictions, and the curves of its training.

    python tools/visualize.py --config-file output/demo/config.yaml --output output/demo

The weights are those of ``train.init_checkpoint`` if it is overridden behind the options, else the
last checkpoint of ``train.output_dir``.  Overrides are those of ``train_net.py``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import instantiate
from detectron2.data import MetadataCatalog
from detectron2.data import detection_utils as utils
from omegaconf import DictConfig

from ms_detr.config import load_config
from ms_detr.engine import ReportingCheckpointer, resolve_device
from ms_detr.engine.build import load_weights
from ms_detr.errors import ConfigError
from ms_detr.visualization import Comparison, save_comparison_grid, save_training_curves


def find_weights(cfg: DictConfig, overrides: Sequence[str]) -> str:
    """The overridden ``train.init_checkpoint``, else the last checkpoint of ``train.output_dir``.

    Raises:
        ConfigError: there is neither, or the file does not exist.
    """
    if any(text.lstrip("+").startswith("train.init_checkpoint=") for text in overrides):
        path = cfg.train.init_checkpoint
    else:
        last = DetectionCheckpointer(torch.nn.Module(), cfg.train.output_dir)
        path = last.get_checkpoint_file() if last.has_checkpoint() else ""
    if not path:
        raise ConfigError(
            f"no trained weights: {cfg.train.output_dir} has no last checkpoint; train first, or "
            "add train.init_checkpoint=FILE"
        )
    if "://" not in path and not Path(path).is_file():
        raise ConfigError(f"the checkpoint {path} does not exist; correct its path")
    return path


def compare(cfg: DictConfig, weights: str, num_images: int) -> tuple[list[Comparison], list[str]]:
    """Predictions for evenly chosen images of ``dataloader.test``, and the names of the classes."""
    device = resolve_device(cfg.train.device)
    model = instantiate(cfg.model).to(device).eval()
    load_weights(ReportingCheckpointer(model), weights)
    mapper = instantiate(cfg.dataloader.test.mapper)
    dicts = instantiate(cfg.dataloader.test.dataset)
    names = instantiate(cfg.dataloader.test.dataset.names)
    step = max(1, len(dicts) // num_images)
    items = []
    for record in dicts[: step * num_images : step]:
        with torch.no_grad():
            (result,) = model([mapper(record)])
        image = utils.read_image(record["file_name"], format="RGB")
        title = Path(record["file_name"]).name
        items.append(Comparison(image, record["annotations"], result["instances"], title))
    return items, MetadataCatalog.get(names).thing_classes


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config-file", required=True, help="config.yaml of a run, or a config")
    parser.add_argument("--output", required=True, help="folder for the pictures")
    parser.add_argument("--num-images", type=int, default=12, help="images to draw")
    parser.add_argument("--score-threshold", type=float, default=0.3, help="lowest score drawn")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="overrides, key=value")
    args = parser.parse_args(arguments)
    if args.num_images < 1:
        parser.error(f"--num-images is {args.num_images}, but must be at least 1")
    try:
        cfg = load_config(args.config_file, args.opts)
        weights = find_weights(cfg, args.opts)
        items, class_names = compare(cfg, weights, args.num_images)
        output = Path(args.output)
        print(
            save_comparison_grid(
                output / "detections.png", items, class_names, args.score_threshold
            )
        )
        metrics = Path(cfg.train.output_dir) / "metrics.json"
        if metrics.is_file():
            print(save_training_curves(metrics, output / "curves.png"))
    except (ValueError, NotADirectoryError, FileExistsError, PermissionError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
