"""Train a small MS-DETR from scratch on any COCO-format json: for a CPU, or for a first look.

Paths are given as for `finetune.py`.  Images are resized to at most 320 pixels.
"""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L

from ms_detr.data import count_classes

from ..common.data.custom import dataloader, dataset
from ..common.from_scratch import lr_multiplier, optimizer
from ..common.train import train
from ..models.ms_detr_small import model

model.heads.num_classes = L(count_classes)(json_file="${dataset.train_json}")
model.queries.num_queries = 100

resize = L(T.ResizeShortestEdge)(short_edge_length=240, max_size=320)
dataloader.train.mapper.augmentations = [L(T.RandomFlip)(), resize]
dataloader.train.total_batch_size = 4
dataloader.train.num_workers = 2
dataloader.test.mapper.augmentations = [resize]
dataloader.test.num_workers = 2

train.max_iter = 600
train.eval_period = 300
train.checkpointer.period = 300
train.clip_grad.max_norm = 1.0
train.output_dir = "output/custom"
