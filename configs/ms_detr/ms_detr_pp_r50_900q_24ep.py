"""MS-DETR (c) on Deformable-DETR++, R50, 900 queries, 24 epochs on COCO: published AP 50.9."""

from ..common.backbones.resnet import resnet50_weights
from ..common.data.coco import dataloader
from ..common.optim import AdamW as optimizer
from ..common.schedule import lr_multiplier_24ep as lr_multiplier
from ..common.train import train
from ..models.ms_detr_pp import model

model.queries.num_queries = 900
model.postprocess.num_detections = 300
train.max_iter = 24 * 7393
train.init_checkpoint = resnet50_weights
train.output_dir = "output/ms_detr_pp_r50_900q_24ep"
