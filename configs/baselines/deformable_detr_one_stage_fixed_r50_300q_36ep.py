"""One-stage Deformable-DETR, fixed references, R50, 36 epochs on COCO: published AP 43.3."""

from ..common.backbones.resnet import resnet50_weights
from ..common.data.coco import dataloader
from ..common.optim import AdamW as optimizer
from ..common.schedule import lr_multiplier_36ep as lr_multiplier
from ..common.train import train
from ..models.deformable_detr_one_stage_fixed import model

train.max_iter = 36 * 7393
train.init_checkpoint = resnet50_weights
train.output_dir = "output/deformable_detr_one_stage_fixed_r50_300q_36ep"
