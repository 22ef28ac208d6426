"""Deformable-DETR++, R50, 300 queries, 24 epochs on COCO; not published."""

from ..common.backbones.resnet import resnet50_weights
from ..common.data.coco import dataloader
from ..common.optim import AdamW as optimizer
from ..common.schedule import lr_multiplier_24ep as lr_multiplier
from ..common.train import train
from ..models.deformable_detr_pp import model

train.max_iter = 24 * 7393
train.init_checkpoint = resnet50_weights
train.output_dir = "output/deformable_detr_pp_r50_300q_24ep"
