"""A model with a mask head is not started on data without masks."""

from __future__ import annotations

import pytest
from detectron2.config import LazyCall as L
from detectron2.config import LazyConfig
from detectron2.data import DatasetMapper
from omegaconf import OmegaConf

from ms_detr.engine.mask_checks import check_masks
from ms_detr.errors import ConfigError


@pytest.fixture
def config(repository):
    """A config with the data of a file and something in the place of a mask head."""

    def make(data: str):
        cfg = LazyConfig.load(str(repository / f"configs/common/data/{data}.py"))
        return OmegaConf.create(
            {"model": {"mask_head": {}}, "dataloader": cfg.dataloader},
            flags={"allow_objects": True},
        )

    return make


@pytest.mark.parametrize("data", ["coco_mask", "lsj", "lvis", "shapes_mask", "custom_mask"])
def test_mask_data_are_accepted(config, data) -> None:
    check_masks(config(data))


@pytest.mark.parametrize("data", ["coco", "shapes", "custom"])
def test_box_data_are_refused(config, data) -> None:
    cfg = config(data)
    with pytest.raises(ConfigError, match=r"dataloader\.train\.mapper\.use_instance_mask=True"):
        check_masks(cfg)
    cfg.model.mask_head = None
    check_masks(cfg)


def test_objects_without_masks_have_to_be_spoken_about(config) -> None:
    for cfg in (config("coco_mask"), config("coco")):
        cfg.dataloader.train.mapper.use_instance_mask = True
        cfg.dataloader.train.dataset.maskless = "keep"
        with pytest.raises(ConfigError, match=r"dataset\.maskless=error.*configs/custom/small\.py"):
            check_masks(cfg)
        cfg.dataloader.train.dataset.maskless = "skip"
        check_masks(cfg)


def test_what_is_not_known_is_left_alone(config) -> None:
    cfg = config("coco_mask")
    cfg.dataloader.train.mapper = L(print)()
    check_masks(cfg)
    cfg.dataloader.train.mapper = L(DatasetMapper)(use_instance_mask=True)
    cfg.dataloader.train.dataset = L(print)()
    check_masks(cfg)
    del cfg.dataloader["train"]
    check_masks(cfg)


def test_the_mend_of_boxes_only_works(repository) -> None:
    cfg = LazyConfig.load(str(repository / "configs/custom/small.py"))
    check_masks(cfg)
    assert cfg.dataloader.train.dataset.get("maskless", "keep") == "keep"
