"""Group DETR on DAB-DETR, R50, 11 groups of 300, 12 epochs on COCO: published AP 39.1."""

from ..baselines.dab_detr_r50_300q_12ep import dataloader, lr_multiplier, model, optimizer, train
from ..common.supervision.group import add_group

add_group(model)
train.output_dir = "output/group_dab_detr_r50_300q_12ep"
