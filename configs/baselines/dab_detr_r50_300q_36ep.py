"""DAB-DETR, R50, 300 queries, 36 epochs on COCO: published AP 41.2."""

from ..common.backbones.resnet import resnet50_weights
from ..common.data.coco import dataloader
from ..common.optim_detr import AdamW as optimizer
from ..common.schedule import lr_multiplier_36ep as lr_multiplier
from ..common.train import train
from ..models.dab_detr_r50 import model

train.max_iter = 36 * 7393
train.init_checkpoint = resnet50_weights
train.output_dir = "output/dab_detr_r50_300q_36ep"
