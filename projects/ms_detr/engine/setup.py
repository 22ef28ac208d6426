"""From command-line arguments to a checked config, before anything is built."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import warnings

import torch
from detectron2.data import MetadataCatalog
from detectron2.utils import comm
from detectron2.utils.collect_env import collect_env_info
from detectron2.utils.env import seed_all_rng
from detectron2.utils.logger import setup_logger
from omegaconf import DictConfig

from ..config import load_config
from ..config_file import save_config
from ..errors import ConfigError
from ..host_memory import keep_freed_memory
from .checks import check_settings, dataset_names
from .device import resolve_amp, resolve_device
from .files import output_errors
from .log_files import tolerate_full_disk

logger = logging.getLogger(__name__)

# Warnings of code that is not ours, about what the user cannot change and need not know.
_KNOWN_WARNINGS = (
    # detectron2 makes a tensor of the boxes of one image: a few numbers.
    r"Creating a tensor from a list of numpy\.ndarrays is extremely slow",
    # detectron2 0.5 gathers the results of several processes through a class that has a successor.
    r"TypedStorage is deprecated",
    # fp16 skips the optimizer while the gradient scaler looks for its scale; the rate goes on.
    r"Detected call of `lr_scheduler\.step\(\)` before `optimizer\.step\(\)`",
)


def setup(args: argparse.Namespace) -> DictConfig:
    """Loads and checks the config, registers its data set, and starts logs and random numbers.

    On a CPU the process keeps the memory that it frees, see :mod:`ms_detr.host_memory`.

    Args:
        args: of ``detectron2.engine.default_argument_parser``.

    Returns:
        The config. Training saves it to ``config.yaml`` in the output directory when it begins;
        with ``--eval-only`` it is saved to ``config_eval.yaml`` here.

    Raises:
        ConfigError: a key, a value, a file or the output directory cannot be used. Nothing has
            been built by then.
    """
    cfg = load_config(args.config_file, args.opts or [])
    check_settings(cfg, resume=args.resume, evaluate=args.eval_only)
    device = resolve_device(cfg.train.device)
    resolve_amp(cfg.train.amp.enabled, cfg.train.amp.dtype, device)
    _check_batch(cfg)
    prepare_dataset(cfg, *(("test",) if args.eval_only else ()))
    for message in _KNOWN_WARNINGS:
        warnings.filterwarnings("ignore", message=message, category=UserWarning)
    _start(cfg, args)
    if device.type == "cpu":
        keep_freed_memory()
    tolerate_full_disk()
    return cfg


def _start(cfg: DictConfig, args: argparse.Namespace) -> None:
    """What detectron2's ``default_setup`` does, but for ``config.yaml``.

    That file is written when training begins: a start that is refused must not change what an
    earlier run in the same folder left.
    """
    folder, rank = cfg.train.output_dir, comm.get_rank()
    for name in ("fvcore", "detectron2", "ms_detr"):
        for handler in setup_logger(folder, distributed_rank=rank, name=name).handlers:
            if getattr(handler, "stream", None) is sys.stdout:
                handler.setLevel(logging.INFO)  # details, such as tracebacks, are in log.txt
    for name in ("detectron2.data.datasets.coco", "detectron2.config.instantiate"):
        logging.getLogger(name).addFilter(_is_worth_saying)
    logger.info("process %d of %d", rank, comm.get_world_size())
    logger.info("Environment info:\n%s", collect_env_info())
    logger.info("Command line arguments: %s", args)
    if args.eval_only and comm.is_main_process():
        path = os.path.join(folder, "config_eval.yaml")
        with output_errors("the config", path):
            save_config(cfg, path)
    seed_all_rng(None if cfg.train.seed < 0 else cfg.train.seed + rank)
    torch.backends.cudnn.benchmark = bool(
        not args.eval_only and cfg.train.get("cudnn_benchmark", False)
    )


def _is_worth_saying(record: logging.LogRecord) -> bool:
    """False for the warning that category ids have holes, which they may have.

    And for what is said of every part around one that cannot be built: its error names it.
    """
    unworthy = ("Category ids in annotations are not in", "Error when instantiating")
    return not any(words in str(record.msg) for words in unworthy)


def prepare_dataset(cfg: DictConfig, *splits: str) -> None:
    """Registers the data sets of the config and notes their classes in ``cfg.dataset``.

    A config that trains on files given on the command line has a section ``dataset``. It receives
    ``num_classes`` and ``class_names``, so that a reader of the saved ``config.yaml`` knows what
    the model's outputs mean, also where the json is not at hand. They always come from the data:
    what a loaded ``config.yaml`` says about them is replaced.

    Args:
        cfg: the config, which is changed.
        splits: loaders whose data sets are needed, "train", "test" or both (the default). With
            "test" alone the training json is read only if another part of the config asks for
            it, as a model does that counts its classes.

    Raises:
        DatasetError: a file is not given, is missing, or its categories cannot be used.
    """
    section = cfg.get("dataset")
    if not isinstance(section, DictConfig):
        return
    names = dataset_names(cfg, *splits)
    classes = MetadataCatalog.get(names[0]).get("thing_classes") if names else None
    if classes is not None:
        section.num_classes = len(classes)
        section.class_names = [str(name) for name in classes]


def chosen_device(args: argparse.Namespace) -> torch.device:
    """The device that a command line and its config ask for, before processes are started.

    Raises:
        ConfigError: see :func:`ms_detr.config.load_config` and :func:`.device.resolve_device`.
    """
    return resolve_device(load_config(args.config_file, args.opts or []).train.device)


def check_processes(num_processes: int, device: torch.device) -> None:
    """Checks ``--num-gpus`` before processes are started: on CPUs there may be any number.

    Raises:
        ConfigError: more processes than this machine has GPUs.
    """
    count = torch.cuda.device_count()
    if device.type == "cuda" and num_processes > count:
        raise ConfigError(
            f"--num-gpus is {num_processes}, but PyTorch sees {count} GPUs; use --num-gpus "
            f"{count}, or train.device=cpu"
        )


def _check_batch(cfg: DictConfig) -> None:
    """The batch is divided among the processes and their parts, which has to come out even."""
    loader = cfg.get("dataloader", {}).get("train") or {}
    total, processes = loader.get("total_batch_size"), comm.get_world_size()
    if not isinstance(total, int):
        return
    if total % processes:
        raise ConfigError(
            f"dataloader.train.total_batch_size={total} cannot be divided among {processes} "
            f"processes; set it to a multiple of {processes}"
        )
    parts = cfg.train.get("accumulate", 1)
    if total // processes % parts:
        raise ConfigError(
            f"dataloader.train.total_batch_size={total} leaves {total // processes} images for "
            f"each of {processes} processes, which cannot be split into train.accumulate={parts} "
            f"equal parts; set train.accumulate to a divisor of {total // processes}"
        )
