"""MS-DETR (c) on DAB-Deformable-DETR, R50, 300 queries, 12 epochs on COCO; not published."""

from ..common.backbones.resnet import resnet50_weights
from ..common.data.coco import dataloader
from ..common.optim_detr import AdamW as optimizer
from ..common.schedule import lr_multiplier_12ep as lr_multiplier
from ..common.train import train
from ..models.ms_detr_dab_deformable_r50 import model

train.init_checkpoint = resnet50_weights
train.output_dir = "output/ms_detr_dab_deformable_r50_300q_12ep"
