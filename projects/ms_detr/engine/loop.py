"""Training and evaluation of a whole config."""

from __future__ import annotations

import copy
import logging
import math
import os
from collections.abc import Iterable, Sequence
from typing import Any

from detectron2.engine import hooks
from detectron2.engine.defaults import create_ddp_model
from detectron2.utils import comm
from omegaconf import DictConfig
from torch import nn

from ..config_file import save_config
from ..data.workers import keep_workers
from .best import BestWeights
from .build import build, load_weights
from .checkpoint import ReportingCheckpointer
from .checkpoint_files import keep_earlier_run
from .checks import (
    check_classes,
    check_data,
    check_settings,
    check_supervisions,
    dataset_names,
    loader_node,
)
from .device import compute_deterministically, resolve_amp, resolve_device
from .ema import WeightAverage, averaged_weights
from .evaluate import do_test_both
from .events import last_iteration
from .files import output_errors, remove_leftovers
from .freeze import KeepFrozen, freeze_parts
from .hooks import Evaluate, SaveCheckpoints, WriteMetrics
from .preemption import StoppableLoader, StopSignals
from .profile import StepProfile
from .recompute import recompute_parts
from .results import Results, read_results, save_results
from .run_settings import report_changes, run_settings
from .trainer import Trainer

logger = logging.getLogger(__name__)


def do_train(cfg: DictConfig, resume: bool = False) -> Results:
    """Trains, evaluates every ``train.eval_period`` iterations and at the end.

    Data and class counts are checked first. ``train.output_dir`` then receives ``config.yaml``,
    ``metrics.json`` (one line per ``log_period``), TensorBoard's event files, checkpoints, and
    ``results.json`` (the last evaluation). With ``train.ema.enabled`` the averaged weights are
    evaluated too, and left in ``model_final_ema.pth``.

    Args:
        cfg: a config with ``model``, ``dataloader``, ``optimizer``, ``lr_multiplier`` and
            ``train`` (see ``configs/common/train.py``).
        resume: continue from the last checkpoint in the output directory, if there is one; its
            weights, optimizer state and iteration win over ``train.init_checkpoint``.

    Returns:
        The results of the last evaluation, ``{"bbox": {"AP": ...}}``, those of averaged weights
        under "ema"; empty on all processes but the first, and if the run was told to stop.

    Raises:
        ConfigError, DatasetError: what was given cannot be trained with.
        NonFiniteError: a loss or a gradient became NaN or infinite.
        OutputError: a file of the run cannot be written.
    """
    with StopSignals() as signals:  # from here on: a run that is told to stop trains one iteration
        return _train(cfg, resume, signals)


def _train(cfg: DictConfig, resume: bool, signals: StopSignals) -> Results:
    check_settings(cfg, resume=resume)
    compute_deterministically(cfg.train.get("deterministic", False))
    if comm.is_main_process():
        remove_leftovers(cfg.train.output_dir)
    loaders = _build_loaders(cfg, "train", "test")
    model = _build_model(cfg, dataset_names(cfg))
    check_supervisions(model)
    frozen = freeze_parts(model, cfg.train.get("freeze") or ())
    recompute_parts(model, cfg.train.get("activation_checkpointing") or ())
    _log_size(model)
    trainer = _build_trainer(cfg, model, loaders["train"])
    trainer.signals = signals
    checkpointer = ReportingCheckpointer(trainer.model, cfg.train.output_dir, trainer=trainer)
    evaluate = _register_hooks(cfg, trainer, checkpointer, loaders["test"], frozen)
    start = _load(cfg, trainer, checkpointer, resume)
    if resume and (known := _finished(cfg, start)) is not None:
        logger.info("all %d iterations are done and evaluated: nothing is left to do", start)
        return known
    if comm.is_main_process():
        path = os.path.join(cfg.train.output_dir, "config.yaml")
        with output_errors("the config", path):
            save_config(cfg, path)
    _log_update(cfg)
    trainer.train(start, max(start, cfg.train.max_iter))
    return {} if trainer.stopping else evaluate.results


def do_eval_only(cfg: DictConfig) -> Results:
    """Evaluates the weights of ``train.init_checkpoint`` and saves ``results_eval.json``.

    With ``train.ema.enabled`` so are the averaged weights that the checkpoint holds.

    What a run left in the same folder, such as its ``results.json``, stays as it is. Only the
    data sets of ``dataloader.test`` are read (and what ``model`` reads, such as a json whose
    classes it counts).
    """
    check_settings(cfg, evaluate=True)
    compute_deterministically(cfg.train.get("deterministic", False))
    loaders = _build_loaders(cfg, "test")
    model = _build_model(cfg, dataset_names(cfg, "test"))
    path = cfg.train.init_checkpoint
    rest = load_weights(ReportingCheckpointer(model), path)
    average = None
    if _ema_options(cfg) is not None:
        average = copy.deepcopy(model)
        average.load_state_dict(averaged_weights(rest, path))
    results = do_test_both(cfg, _distribute(cfg, model), average, loaders["test"])
    if comm.is_main_process():
        save_results(os.path.join(cfg.train.output_dir, "results_eval.json"), results, None)
    return results


def _build_loaders(cfg: DictConfig, *splits: str) -> dict[str, Any]:
    """Checks the data and builds the loaders of ``splits``.

    Building a loader reads its data set. The one for evaluation is built now, and kept, so that
    its defects show before the first iteration and not at the first evaluation.
    """
    check_data(cfg, *splits)
    nodes = {split: loader_node(cfg, split) for split in splits}
    return {
        split: node and keep_workers(build(node, f"dataloader.{split}"))
        for split, node in nodes.items()
    }


def _build_model(cfg: DictConfig, names: Sequence[str]) -> nn.Module:
    model = build(cfg.model, "model").to(resolve_device(cfg.train.device))
    check_classes(cfg, model, names)
    return model


def _build_trainer(cfg: DictConfig, model: nn.Module, loader: Iterable[Any]) -> Trainer:
    optimizer = copy.deepcopy(cfg.optimizer)  # keeps its place in the config, for interpolations
    optimizer.params.model = model
    device = resolve_device(cfg.train.device)
    ema = _ema_options(cfg)
    return Trainer(
        _distribute(cfg, model),
        loader,
        build(optimizer, "optimizer"),
        amp_dtype=resolve_amp(cfg.train.amp.enabled, cfg.train.amp.dtype, device),
        max_norm=cfg.train.clip_grad.max_norm,
        seed=cfg.train.seed if cfg.train.seed >= 0 else comm.shared_random_seed(),
        accumulate=cfg.train.get("accumulate", 1),
        ema=None if ema is None else WeightAverage(model, **ema),
    )


def _ema_options(cfg: DictConfig) -> dict[str, Any] | None:
    """Options of the average of weights; None where it is not wanted."""
    options = dict(cfg.train.get("ema") or {"enabled": False})
    return options if options.pop("enabled") else None


def _distribute(cfg: DictConfig, model: nn.Module) -> nn.Module:
    """Wraps the model for several processes; on CPUs, no device may be named."""
    device = next(model.parameters()).device
    device_ids = [device.index] if device.type == "cuda" else None
    return create_ddp_model(model, device_ids=device_ids, **cfg.train.ddp)


def _load(
    cfg: DictConfig, trainer: Trainer, checkpointer: ReportingCheckpointer, resume: bool
) -> int:
    """Loads the weights to start from, and says with which iteration to begin."""
    folder = cfg.train.output_dir
    resumed = resume and checkpointer.has_checkpoint()
    if resume and not resumed:
        logger.warning("--resume: %s has no checkpoint, training starts from the beginning", folder)
    wanted = [group["lr"] for group in trainer.optimizer.param_groups]
    saved = load_weights(checkpointer, cfg.train.init_checkpoint, resume)
    comm.synchronize()  # files of an earlier run are moved once everybody has read them
    if not resumed:
        if comm.is_main_process():
            keep_earlier_run(folder)
        return 0
    kept = [group.get("initial_lr", group["lr"]) for group in trainer.optimizer.param_groups]
    if not all(math.isclose(a, b, rel_tol=1e-6) for a, b in zip(wanted, kept)):
        logger.warning(
            "the checkpoint's learning rates %s are continued, not the config's %s", kept, wanted
        )
    report_changes(saved.get("run", {}), run_settings(cfg))
    return trainer.iter + 1  # the checkpoint holds the iteration that was just finished


def _finished(cfg: DictConfig, start: int) -> Results | None:
    """The results of a run that is over and has written everything; None if something is left."""
    if start < cfg.train.max_iter:
        return None
    known = None
    if comm.is_main_process():
        written = last_iteration(os.path.join(cfg.train.output_dir, "metrics.json"))
        if written >= start - 1:
            known = read_results(os.path.join(cfg.train.output_dir, "results.json"), start)
    known = comm.all_gather(known)[0]
    return known if known is None or comm.is_main_process() else {}


def _register_hooks(
    cfg: DictConfig,
    trainer: Trainer,
    checkpointer: ReportingCheckpointer,
    loader: Iterable[Any] | None,
    frozen: Sequence[nn.Module],
) -> Evaluate:
    """The hooks in the order of :mod:`ms_detr.engine.hooks`; all processes have the same."""
    settings, folder = cfg.train.checkpointer, cfg.train.output_dir
    average = trainer.ema and trainer.ema.model

    def evaluate() -> Results:
        batches = None if loader is None else StoppableLoader(loader, trainer.signals)
        return do_test_both(cfg, trainer.model, average, batches)

    of_average = average is not None and str(settings.get("best")).startswith("ema/")
    best = BestWeights(
        settings.get("best"), checkpointer, average if of_average else checkpointer.model
    )
    evaluation = Evaluate(
        cfg.train.eval_period, evaluate, os.path.join(folder, "results.json"), best
    )
    trainer.register_hooks([KeepFrozen(frozen)])
    if cfg.train.get("profile") and comm.is_main_process():
        trainer.register_hooks([StepProfile(cfg.train.log_period, folder)])
    trainer.register_hooks(
        [
            hooks.IterationTimer(),
            hooks.LRScheduler(scheduler=build(cfg.lr_multiplier, "lr_multiplier")),
            SaveCheckpoints(
                checkpointer, settings.period, settings.max_to_keep, {"run": run_settings(cfg)}
            ),
            evaluation,
            WriteMetrics(folder, cfg.train.log_period),
        ]
    )
    return evaluation


def _log_update(cfg: DictConfig) -> None:
    """Says what an update is made of."""
    total = cfg.dataloader.train.get("total_batch_size")
    processes, parts = comm.get_world_size(), cfg.train.get("accumulate", 1)
    if isinstance(total, int):
        logger.info(
            "an update: %d images = %d processes x %d parts x %d",
            total, processes, parts, total // (processes * parts),
        )  # fmt: skip


def _log_size(model: nn.Module) -> None:
    total = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    logger.info("Model:\n%s", model)
    logger.info("%.2f M parameters, of which %.2f M are trained", total / 1e6, trained / 1e6)
