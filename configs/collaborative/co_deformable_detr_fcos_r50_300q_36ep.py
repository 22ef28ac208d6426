"""Co-DETR with FCOS on plain Deformable-DETR, R50, 300 queries, 36 epochs: published AP 46.5."""

from ..baselines.deformable_detr_one_stage_fixed_r50_300q_36ep import (
    dataloader,
    lr_multiplier,
    model,
    optimizer,
    train,
)
from ..common.supervision.collaborative import add_fcos

add_fcos(model)
train.output_dir = "output/co_deformable_detr_fcos_r50_300q_36ep"
