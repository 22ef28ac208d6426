"""Checks of a run's settings, made before the first iteration."""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Sequence
from typing import Any

from detectron2.config import instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils import comm
from omegaconf import DictConfig, ListConfig, OmegaConf
from torch import nn

from ..config import iterate_nodes
from ..data import DatasetError, check_dataset, checked_dataset_dicts, from_main_process
from ..errors import ConfigError
from .checkpoint_files import has_checkpoints
from .mask_checks import check_masks, target_of
from .value_checks import check_values


def check_best(cfg: DictConfig) -> None:
    """Raises ConfigError if no evaluation of this config will have ``train.checkpointer.best``."""
    best = str(OmegaConf.select(cfg, "train.checkpointer.best", default=None) or "")
    if best.startswith("ema/") and not OmegaConf.select(cfg, "train.ema.enabled", default=False):
        raise ConfigError(
            f"train.checkpointer.best is {best!r}, but no average of the weights is kept; set "
            f"train.ema.enabled=True or train.checkpointer.best={best.removeprefix('ema/')}"
        )
    tasks = OmegaConf.select(cfg, "dataloader.evaluator.tasks", default=None)
    if best and tasks and not any(f"{task}/" in best for task in tasks):
        raise ConfigError(
            f"train.checkpointer.best is {best!r}, but dataloader.evaluator.tasks is "
            f"{list(tasks)}; set train.checkpointer.best={tasks[0]}/AP or null"
        )


def check_output_dir(path: str) -> None:
    """Creates the output directory and writes a file into it, to know now that it can be done.

    Raises:
        ConfigError: the path is empty, or the directory cannot be made or written.
    """
    if not path:
        raise ConfigError("train.output_dir is empty; set train.output_dir=DIRECTORY")
    try:
        os.makedirs(path, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise ConfigError(
            f"output directory {path!r} cannot be written ({error.strerror or error}); "
            f"set train.output_dir=DIRECTORY to one that can"
        ) from error


def check_init_checkpoint(cfg: DictConfig, *, resume: bool = False, evaluate: bool = False) -> None:
    """Checks ``train.init_checkpoint``, unless it is not used: a run with a checkpoint resumes.

    Raises:
        ConfigError: the file does not exist, or is not given although it is to be evaluated.
    """
    path = cfg.train.init_checkpoint
    if evaluate and not path:
        raise ConfigError(
            "train.init_checkpoint is empty, so there are no weights to evaluate; "
            "set train.init_checkpoint=.../model_final.pth"
        )
    if resume and not evaluate and has_checkpoints(cfg.train.output_dir):
        return
    if path and "://" not in path and not os.path.isfile(path):
        raise ConfigError(
            f"train.init_checkpoint={path!r} does not exist; give the path of a checkpoint, or "
            f"train.init_checkpoint='' to start from initial values"
        )


def check_settings(cfg: DictConfig, *, resume: bool = False, evaluate: bool = False) -> None:
    """Checks what is known without data and without a model; takes milliseconds.

    :func:`ms_detr.engine.setup` calls it before it reads data and starts logs, and training and
    evaluation call it for those who come with a config of their own.

    Raises:
        ConfigError: see :func:`check_values`, :func:`check_output_dir`,
            :func:`check_init_checkpoint`, :func:`check_masks`, :func:`check_best`.
    """
    check_values(cfg)
    check_init_checkpoint(cfg, resume=resume, evaluate=evaluate)
    if not evaluate:
        check_masks(cfg)
        check_best(cfg)
    if comm.is_main_process():
        check_output_dir(cfg.train.output_dir)


def check_supervisions(model: nn.Module) -> None:
    """Raises ConfigError if the model is one that is taught by supervisions and has none."""
    model = getattr(model, "module", model)
    if getattr(model, "supervisions", model) is None:
        raise ConfigError(
            "model.supervisions is null or deleted: nothing teaches the model; training needs at "
            "least one supervision, e.g. model.supervisions.one_to_one (--eval-only needs none)"
        )


def dataset_names(cfg: DictConfig, *splits: str) -> list[str]:
    """Names of the data sets that the loaders of ``splits`` read, each once.

    Args:
        cfg: the config; ``dataloader.<split>.dataset.names`` is a name, a list of names, or a
            lazy call that registers a data set and returns its name. ``dataloader.<split>`` is a
            loader or a list of loaders.
        splits: "train", "test" or both (the default).
    """
    names: list[str] = []
    for split in splits or ("train", "test"):
        for dataset in dataset_nodes(cfg, split):
            found = instantiate(dataset.get("names"))
            names += [found] if isinstance(found, str) else list(found or ())
    return list(dict.fromkeys(names))


def dataset_nodes(cfg: DictConfig, split: str) -> list[DictConfig]:
    """The ``dataset`` nodes of a split's loaders."""
    return _datasets_of(OmegaConf.select(cfg, f"dataloader.{split}", default=None))


def _datasets_of(node: Any) -> list[DictConfig]:
    loaders = node if isinstance(node, ListConfig) else [node]
    found = [loader.get("dataset") for loader in loaders if isinstance(loader, DictConfig)]
    return [dataset for dataset in found if isinstance(dataset, DictConfig)]


def check_data(cfg: DictConfig, *splits: str) -> None:
    """Checks annotations and images of the data sets that are loaded unchecked.

    Loaders that read with :func:`ms_detr.data.checked_dataset_dicts` check when they are built.
    This is for the others, such as detectron2's ``get_detection_dataset_dicts``, unless
    ``train.check_data`` is false. The main process checks, and the others wait for its answer.

    Raises:
        DatasetError: a data set has defects, see :mod:`ms_detr.data.checks`.
    """
    if OmegaConf.select(cfg, "train.check_data", default=True):
        from_main_process(lambda: _check_others(cfg, *splits))


def loader_node(cfg: DictConfig, split: str) -> Any:
    """The node ``dataloader.<split>``; a copy that checks nothing if ``train.check_data`` is false.

    None, or the node itself, if there is nothing to leave out.
    """
    node = cfg.dataloader.get(split)
    if node is None or OmegaConf.select(cfg, "train.check_data", default=True):
        return node
    node = copy.deepcopy(node)  # keeps its place in the config, for interpolations
    for dataset in _datasets_of(node):
        if target_of(dataset) is checked_dataset_dicts:
            dataset.check = False
    return node


def _check_others(cfg: DictConfig, *splits: str) -> None:
    for split in splits or ("train", "test"):
        for dataset in dataset_nodes(cfg, split):
            if target_of(dataset) is checked_dataset_dicts:
                continue
            names = instantiate(dataset.get("names"))
            for name in [names] if isinstance(names, str) else names or ():
                summary = check_dataset(name, evaluation=split == "test")
                if summary.boxless_ids:
                    raise DatasetError(
                        f"{summary.json_file}: annotation {summary.boxless_ids[0]} has a mask and "
                        "no box, which only ms_detr.data.checked_dataset_dicts completes; mend: "
                        f"make it dataloader.{split}.dataset, or write the boxes"
                    )


def check_classes(cfg: DictConfig, model: nn.Module, names: Sequence[str]) -> None:
    """Compares the model's number of classes with those of the data sets.

    Raises:
        ConfigError: they differ, or the data sets do not agree on their classes.
    """
    wanted: int | None = getattr(getattr(model, "module", model), "num_classes", None)
    classes: dict[str, list[str]] = {}
    for name in names:
        metadata = MetadataCatalog.get(name)
        if metadata.get("thing_classes") is None:
            DatasetCatalog.get(name)  # loading a json fills in its metadata
        found = metadata.get("thing_classes")
        if found is not None:
            classes[name] = list(found)
    for name, found in classes.items():
        if wanted is not None and len(found) != wanted:
            keys = " ".join(f"{key}={len(found)}" for key in _class_keys(cfg))
            raise ConfigError(
                f"the model has {wanted} classes, but data set {name!r} has {len(found)} "
                f"({_shorten(found)}); set {keys or 'the number of classes of the model'}"
            )
        first = next(iter(classes))
        if found != classes[first]:
            raise ConfigError(
                f"data sets {first!r} ({_shorten(classes[first])}) and {name!r} "
                f"({_shorten(found)}) differ in their classes or in their order; make the "
                f"'categories' of the json files equal"
            )


def _shorten(classes: Sequence[Any], most: int = 8) -> str:
    shown = ", ".join(str(name) for name in classes[:most])
    return f"{shown}, ..." if len(classes) > most else shown


def _class_keys(cfg: DictConfig) -> list[str]:
    """Dotted keys of the model's config that set a number of classes (not those that refer)."""
    model = cfg.get("model")
    nodes = iterate_nodes(model, "model.") if isinstance(model, DictConfig) else ()
    return [
        key for key, node in nodes if key.endswith(".num_classes") and not node._is_interpolation()
    ]
