"""From command-line arguments to a checked config, before anything is built."""

from __future__ import annotations

import argparse

import torch
from detectron2.data import MetadataCatalog
from detectron2.engine import default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from omegaconf import DictConfig

from ..config import load_config
from ..errors import ConfigError
from .checks import check_init_checkpoint, check_output_dir, check_values, dataset_names
from .device import resolve_amp, resolve_device


def setup(args: argparse.Namespace) -> DictConfig:
    """Loads and checks the config, registers its data set, and starts logs and random numbers.

    Args:
        args: of ``detectron2.engine.default_argument_parser``.

    Returns:
        The config, as it is saved to ``config.yaml`` in the output directory.

    Raises:
        ConfigError: a key, a value, a file or the output directory cannot be used. Nothing has
            been built by then.
    """
    cfg = load_config(args.config_file, args.opts or [])
    check_values(cfg)
    if comm.is_main_process():
        check_output_dir(cfg.train.output_dir)
    check_init_checkpoint(cfg.train.init_checkpoint)
    device = resolve_device(cfg.train.device)
    resolve_amp(cfg.train.amp.enabled, cfg.train.amp.dtype, device)
    _check_batch(cfg)
    prepare_dataset(cfg)
    # detectron2 sets up its own loggers only.
    setup_logger(cfg.train.output_dir, distributed_rank=comm.get_rank(), name="ms_detr")
    default_setup(cfg, args)
    return cfg


def prepare_dataset(cfg: DictConfig) -> None:
    """Registers the data sets of the config and notes their classes in ``cfg.dataset``.

    A config that trains on files given on the command line has a section ``dataset``. It receives
    ``num_classes`` and ``class_names``, so that the saved ``config.yaml`` says what the model's
    outputs mean, also where the json is not at hand. They always come from the data: what a
    loaded ``config.yaml`` says about them is replaced.

    Raises:
        DatasetError: a file is not given, is missing, or its categories cannot be used.
    """
    section = cfg.get("dataset")
    if not isinstance(section, DictConfig):
        return
    names = dataset_names(cfg)
    classes = MetadataCatalog.get(names[0]).get("thing_classes") if names else None
    if classes is not None:
        section.num_classes = len(classes)
        section.class_names = [str(name) for name in classes]


def check_processes(num_processes: int) -> None:
    """Checks ``--num-gpus`` before processes are started.

    Raises:
        ConfigError: negative, or more than the GPUs of this machine where it has any.
    """
    if num_processes < 0:
        raise ConfigError(f"--num-gpus is {num_processes}: it must be at least 0")
    if num_processes > 1 and torch.cuda.is_available():
        count = torch.cuda.device_count()
        if num_processes > count:
            raise ConfigError(f"--num-gpus is {num_processes}, but PyTorch sees {count} GPUs")


def _check_batch(cfg: DictConfig) -> None:
    """detectron2 divides the batch among the processes, which has to come out even."""
    loader = cfg.get("dataloader", {}).get("train") or {}
    total, processes = loader.get("total_batch_size"), comm.get_world_size()
    if isinstance(total, int) and total % processes:
        raise ConfigError(
            f"dataloader.train.total_batch_size={total} cannot be divided among {processes} "
            f"processes; set it to a multiple of {processes}"
        )
