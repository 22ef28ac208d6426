"""Group DETR on DAB-Deformable-DETR, R50, 11 groups, 12 epochs on COCO: published AP 45.7."""

from ..baselines.dab_deformable_detr_r50_300q_12ep import (
    dataloader,
    lr_multiplier,
    model,
    optimizer,
    train,
)
from ..common.supervision.group import add_group

add_group(model)
train.output_dir = "output/group_dab_deformable_detr_r50_300q_12ep"
