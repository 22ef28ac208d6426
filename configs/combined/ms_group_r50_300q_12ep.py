"""MS-DETR (c) with Group DETR's groups, R50, 300 queries, 12 epochs on COCO."""

from ..common.supervision.group import add_group
from ..ms_detr.ms_detr_r50_300q_12ep import dataloader, lr_multiplier, model, optimizer, train

add_group(model)
train.output_dir = "output/ms_group_r50_300q_12ep"
