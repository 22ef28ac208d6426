#!/usr/bin/env python
"""Evaluates auxiliary heads by themselves, beside the decoder (Co-DETR, Table 11).

    python tools/evaluate_branch.py --config-file output/co/config.yaml
    python tools/evaluate_branch.py --config-file output/co/config.yaml --branch atss

A head detects from the encoder's output, followed by non-maximum suppression.  Images and
evaluator are those of the config; masks are not evaluated.  The weights are those of --weights,
else the last checkpoint of ``train.output_dir``.  Prints a table, and writes ``branches.json``
into ``train.output_dir``.  Overrides are those of ``train_net.py``.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectron2.utils.logger import setup_logger
from omegaconf import DictConfig
from tabulate import tabulate
from visualize import find_weights

from ms_detr.config import load_config
from ms_detr.engine import (
    ReportingCheckpointer,
    check_classes,
    check_data,
    check_values,
    dataset_names,
    do_test,
    prepare_dataset,
    resolve_device,
)
from ms_detr.engine.build import build, load_weights
from ms_detr.engine.files import write_text_atomically
from ms_detr.errors import ConfigError, OutputError
from ms_detr.heads import NMSDetections
from ms_detr.meta_arch import MSDETR
from ms_detr.supervision.auxiliary import BranchDetector, auxiliary_heads

DECODER = "decoder"
Scores = dict[str, dict[str, float]]


class Checkpointer(ReportingCheckpointer):
    """Remembers which tensors of the model a file does not have."""

    missing: tuple[str, ...] = ()

    def _load_model(self, checkpoint: Any) -> Any:
        incompatible = super()._load_model(checkpoint)
        self.missing = tuple(incompatible.missing_keys)
        return incompatible


def trained_model(cfg: DictConfig, weights: str, names: Sequence[str]) -> tuple[MSDETR, list[str]]:
    """The detector of a config with weights from a file, and the branches that are wanted.

    Args:
        cfg: the config.
        weights: the file.
        names: of auxiliary heads; all of them if none is named.

    Raises:
        ConfigError: a head is not there, or the file has no weights for it.
    """
    model = build(cfg.model, "model").to(resolve_device(cfg.train.device)).eval()
    check_classes(cfg, model, dataset_names(cfg, "test"))
    known = auxiliary_heads(model) if isinstance(model, MSDETR) else {}
    unknown = [name for name in names if name not in known]
    if unknown or not known:
        asked = f"--branch {unknown[0]}: " if unknown else ""
        raise ConfigError(
            f"{asked}no such auxiliary head; model.supervisions has {', '.join(known) or 'none'}"
        )
    chosen = list(dict.fromkeys(names)) or list(known)
    checkpointer = Checkpointer(model)
    load_weights(checkpointer, weights)
    needed = ("supervisions.adapter.", *(f"supervisions.{name}.source.head." for name in chosen))
    missing = [name for name in checkpointer.missing if name.startswith(needed)]
    if missing:
        raise ConfigError(
            f"{weights} has no weights for {len(missing)} tensors of auxiliary heads, the first is "
            f"{missing[0]}; give a checkpoint of a training with these heads"
        )
    return model, chosen


def evaluate(
    cfg: DictConfig, model: MSDETR, branches: Sequence[str], postprocess: NMSDetections
) -> Scores:
    """Metrics of boxes by name, of the decoder and of every branch.

    Raises:
        ConfigError: there is nothing to evaluate with.
    """
    evaluator = cfg.dataloader.get("evaluator")
    if evaluator is None or cfg.dataloader.get("test") is None:
        raise ConfigError("the config has no dataloader.test and dataloader.evaluator; give both")
    if evaluator.get("tasks"):
        evaluator.tasks = ["bbox"]  # auxiliary heads have no masks
    loader = build(cfg.dataloader.test, "dataloader.test")
    own = {name: BranchDetector(model, name, postprocess) for name in branches}
    return {
        name: {key: float(value) for key, value in do_test(cfg, detector, loader)["bbox"].items()}
        for name, detector in {DECODER: model, **own}.items()
    }


def table(scores: Scores) -> str:
    """A row for the decoder and one for every branch, without the numbers of single classes."""
    columns = [key for key in scores[DECODER] if not key.startswith(("AP-", "AR"))]
    rows = [[name, *(row[key] for key in columns)] for name, row in scores.items()]
    return tabulate(rows, headers=["", *columns], tablefmt="pipe", floatfmt=".2f")


def save(path: Path, weights: str, postprocess: NMSDetections, scores: Scores) -> None:
    """Writes the metrics; one that is not defined becomes null."""
    plain = {
        name: {key: value if math.isfinite(value) else None for key, value in row.items()}
        for name, row in scores.items()
    }
    settings = {
        "num_detections": postprocess.num_detections, "iou_threshold": postprocess.iou_threshold
    }  # fmt: skip
    content = {"weights": weights, "nms": settings, "metrics": plain}
    write_text_atomically(path, json.dumps(content, indent=2) + "\n", "the results")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, help="config.yaml of a run, or a config")
    parser.add_argument(
        "--branch", action="append", default=[], help="only this one (may be given again)"
    )
    parser.add_argument("--weights", help="a checkpoint of training")
    parser.add_argument("--iou-threshold", type=float, default=0.6, help="of the suppression (0.6)")
    parser.add_argument("--num-detections", type=int, default=100, help="of an image (100)")
    parser.add_argument("--output", type=Path, help="default: branches.json in train.output_dir")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="overrides, key=value")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    args = parser().parse_args(arguments)
    opts = args.opts + [f"train.init_checkpoint={args.weights}"] * (args.weights is not None)
    try:
        postprocess = NMSDetections(args.num_detections, args.iou_threshold)
        cfg = load_config(args.config_file, opts)
        check_values(cfg)
        weights = find_weights(cfg, opts)
        prepare_dataset(cfg, "test")
        check_data(cfg, "test")
        model, branches = trained_model(cfg, weights, args.branch)
        scores = evaluate(cfg, model, branches, postprocess)
        print(table(scores))
        path = args.output or Path(cfg.train.output_dir) / "branches.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        save(path, weights, postprocess, scores)
        print(path)
    except (ValueError, OutputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    for logger in ("detectron2", "ms_detr"):  # which tell how far the evaluation is
        setup_logger(name=logger)
    sys.exit(main())
