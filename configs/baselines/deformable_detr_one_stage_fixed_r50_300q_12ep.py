"""One-stage Deformable-DETR, fixed references, R50, 12 epochs on COCO: published AP 37.1."""

from ..common.backbones.resnet import resnet50_weights
from ..common.data.coco import dataloader
from ..common.optim import AdamW as optimizer
from ..common.schedule import lr_multiplier_12ep as lr_multiplier
from ..common.train import train
from ..models.deformable_detr_one_stage_fixed import model

train.init_checkpoint = resnet50_weights
train.output_dir = "output/deformable_detr_one_stage_fixed_r50_300q_12ep"
