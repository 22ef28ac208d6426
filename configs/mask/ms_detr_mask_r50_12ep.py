"""Mask-MS-DETR, R50, 300 queries, 12 epochs on COCO: boxes and masks."""

from ..common.backbones.resnet import resnet50_weights
from ..common.data.coco_mask import dataloader
from ..common.optim import AdamW as optimizer
from ..common.schedule import lr_multiplier_12ep as lr_multiplier
from ..common.train import train
from ..models.ms_detr_mask import model

train.init_checkpoint = resnet50_weights
train.output_dir = "output/ms_detr_mask_r50_12ep"
