"""Any data set in COCO format, given on the command line; augmentation as in `coco.py`.

A config that uses this file imports `dataset` and `dataloader`, and takes the number of classes
from the json: `model.heads.num_classes = L(count_classes)(json_file="${dataset.train_json}")`.
"""

from detectron2.config import LazyCall as L
from omegaconf import OmegaConf

from ms_detr.data import register_coco_json

from .coco import dataloader

dataset = OmegaConf.create(
    {
        "train_json": None,
        "train_images": None,
        "val_json": None,
        "val_images": None,
    }
)

dataloader.train.dataset.names = L(register_coco_json)(
    name="custom_train",
    json_file="${dataset.train_json}",
    image_root="${dataset.train_images}",
    option="train",
)
dataloader.train.dataset.degenerate = "error"

dataloader.test.dataset.names = L(register_coco_json)(
    name="custom_val",
    json_file="${dataset.val_json}",
    image_root="${dataset.val_images}",
    same_classes_as="${dataset.train_json}",
    option="val",
)
