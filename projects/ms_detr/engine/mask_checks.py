"""Whether the data of a run give the masks that its model learns from."""

from __future__ import annotations

from typing import Any

from detectron2.data import DatasetMapper
from detectron2.utils.registry import locate
from omegaconf import DictConfig, OmegaConf

from ..data import BoxMapper, InstanceMaskMapper, checked_dataset_dicts
from ..errors import ConfigError


def check_masks(cfg: DictConfig) -> None:
    """Checks that a model with a mask head is taught with masks, and with one for every object.

    Raises:
        ConfigError: the training loader gives no masks, or not in the form that the model reads,
            or does not say what to do with objects that have none.
    """
    loader = OmegaConf.select(cfg, "dataloader.train", default=None)
    if OmegaConf.select(cfg, "model.mask_head", default=None) is None:
        return
    if not isinstance(loader, DictConfig) or not isinstance(loader.get("mapper"), DictConfig):
        return
    key, mapper = "dataloader.train.mapper", loader.mapper
    kind = target_of(mapper)
    if kind in (DatasetMapper, BoxMapper) and not mapper.get("use_instance_mask", False):
        raise ConfigError(
            f"model.mask_head learns from masks, which {key} does not give; set "
            f"{key}.use_instance_mask=True {key}.instance_mask_format=bitmask, or take the data "
            "of a mask config, such as configs/common/data/coco_mask.py"
        )
    dataset = loader.get("dataset")
    checked = isinstance(dataset, DictConfig) and target_of(dataset) is checked_dataset_dicts
    known = kind in (DatasetMapper, BoxMapper, InstanceMaskMapper)
    if checked and known and dataset.get("maskless", "keep") == "keep":
        raise ConfigError(
            "model.mask_head learns from masks, and objects may have none; set "
            "dataloader.train.dataset.maskless=error, or =skip to leave them out; to train boxes "
            "only, take a config without a mask head, such as configs/custom/small.py"
        )


def target_of(node: DictConfig) -> Any:
    """What a lazy call calls."""
    target = node.get("_target_")
    return locate(target) if isinstance(target, str) else target
