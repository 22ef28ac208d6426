"""MS-DETR (c) with Group DETR's groups and H-DETR's hybrid branch, R50, 300 queries, 12 epochs."""

from ..common.supervision.group import add_group
from ..common.supervision.hybrid import add_hybrid
from ..ms_detr.ms_detr_r50_300q_12ep import dataloader, lr_multiplier, model, optimizer, train

add_group(model)
add_hybrid(model)
train.output_dir = "output/ms_group_hybrid_r50_300q_12ep"
