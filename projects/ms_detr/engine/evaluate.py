"""Evaluation of a model, and of the average of its weights beside it."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import torch
from detectron2.evaluation import inference_on_dataset, print_csv_format
from detectron2.utils import comm
from omegaconf import DictConfig
from torch import nn

from .build import build
from .results import Results

logger = logging.getLogger(__name__)


def do_test(cfg: DictConfig, model: nn.Module, loader: Iterable[Any] | None = None) -> Results:
    """Evaluates ``model`` with ``dataloader.evaluator`` and logs the table.

    Args:
        cfg: the config.
        model: the model, wrapped for several processes or not.
        loader: what to evaluate on; None builds ``dataloader.test``.

    Returns:
        The evaluator's results; empty without an evaluator, and on all processes but the first.
    """
    if cfg.dataloader.get("evaluator") is None or cfg.dataloader.get("test") is None:
        logger.warning("the config has no dataloader.test and dataloader.evaluator: no evaluation")
        return {}
    loader = build(cfg.dataloader.test, "dataloader.test") if loader is None else loader
    share_buffers(model)
    evaluator = build(cfg.dataloader.evaluator, "dataloader.evaluator")
    results = inference_on_dataset(model, loader, evaluator)
    if not comm.is_main_process() or not results:
        return {}
    print_csv_format(results)
    return dict(results)


def share_buffers(model: nn.Module) -> None:
    """Gives all processes the buffers of the first, whose are saved.

    A batch norm that learns keeps running statistics of its process's own images. Without this,
    each process would evaluate a model of its own, and a resumed run others than before.
    """
    if comm.get_world_size() > 1:
        for buffer in model.buffers():
            torch.distributed.broadcast(buffer, 0)


def do_test_both(
    cfg: DictConfig, model: nn.Module, average: nn.Module | None, loader: Iterable[Any] | None
) -> Results:
    """Results of the model and, under "ema", of its average if there is one."""
    results = do_test(cfg, model, loader)
    if average is not None:
        logger.info("the averaged weights:")
        averaged = do_test(cfg, average, loader)
        results |= {"ema": averaged} if averaged else {}
    return results
