"""DINO, four levels, R50, 900 queries, 24 epochs on COCO: published AP 50.4."""

from ..common.backbones.resnet import resnet50_weights
from ..common.data.coco import dataloader
from ..common.optim_detr import AdamW as optimizer
from ..common.schedule import lr_multiplier_24ep as lr_multiplier
from ..common.train import train
from ..models.dino import model

train.max_iter = 24 * 7393
train.init_checkpoint = resnet50_weights
train.output_dir = "output/dino_4scale_r50_900q_24ep"
