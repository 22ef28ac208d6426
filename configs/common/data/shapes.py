"""The embedded data set of shapes (`tools/make_shapes.py`), at its own size of 128 pixels.

A config that uses this file imports `dataset` and `dataloader`. Objects have any rotation and
size already, so a flip is the only augmentation.
"""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L
from omegaconf import OmegaConf

from ms_detr.data import register_shapes

from .coco import dataloader

dataset = OmegaConf.create({"root": "output/demo/data"})

dataloader.train.dataset.names = L(register_shapes)(root="${dataset.root}", split="train")
dataloader.train.dataset.degenerate = "error"
dataloader.train.mapper.augmentations = [L(T.RandomFlip)()]
dataloader.train.total_batch_size = 8
dataloader.train.num_workers = 0

dataloader.test.dataset.names = L(register_shapes)(root="${dataset.root}", split="val")
dataloader.test.mapper.augmentations = []
dataloader.test.num_workers = 0
