"""DINO, four levels, R50, 900 queries, 12 epochs on COCO: published AP 49.0."""

from ..common.backbones.resnet import resnet50_weights
from ..common.data.coco import dataloader
from ..common.optim_detr import AdamW as optimizer
from ..common.schedule import lr_multiplier_12ep as lr_multiplier
from ..common.train import train
from ..models.dino import model

train.init_checkpoint = resnet50_weights
train.output_dir = "output/dino_4scale_r50_900q_12ep"
