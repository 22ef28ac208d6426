"""Group DETR on one-stage Deformable-DETR, R50, 11 groups of 300 queries, 50 epochs on COCO."""

from ..baselines.deformable_detr_one_stage_r50_300q_50ep import (
    dataloader,
    lr_multiplier,
    model,
    optimizer,
    train,
)
from ..common.supervision.group import add_group

add_group(model)
train.output_dir = "output/group_deformable_detr_one_stage_r50_300q_50ep"
