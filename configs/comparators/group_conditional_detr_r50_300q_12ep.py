"""Group DETR on Conditional DETR, R50, 11 groups of 300, 12 epochs on COCO: published AP 37.6."""

from ..baselines.conditional_detr_r50_300q_12ep import (
    dataloader,
    lr_multiplier,
    model,
    optimizer,
    train,
)
from ..common.supervision.group import add_group

add_group(model)
train.output_dir = "output/group_conditional_detr_r50_300q_12ep"
