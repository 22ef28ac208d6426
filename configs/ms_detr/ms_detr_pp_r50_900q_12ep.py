"""MS-DETR (c) on Deformable-DETR++, R50, 900 queries, 12 epochs on COCO: published AP 50.0."""

from ..common.backbones.resnet import resnet50_weights
from ..common.data.coco import dataloader
from ..common.optim import AdamW as optimizer
from ..common.schedule import lr_multiplier_12ep as lr_multiplier
from ..common.train import train
from ..models.ms_detr_pp import model

model.queries.num_queries = 900
model.postprocess.num_detections = 300
train.init_checkpoint = resnet50_weights
train.output_dir = "output/ms_detr_pp_r50_900q_12ep"
