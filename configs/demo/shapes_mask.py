"""`make demo-masks`: a small Mask-MS-DETR on scenes of five shapes, from scratch, on two CPU cores."""

from ..common.data.shapes_mask import dataloader, dataset
from ..common.from_scratch import lr_multiplier, optimizer
from ..common.train import train
from ..models.ms_detr_mask_small import model

model.heads.num_classes = 5

train.max_iter = 1650
train.eval_period = 550
train.checkpointer.period = 550
train.clip_grad.max_norm = 1.0
train.output_dir = "output/demo_masks"
train.seed = 0
