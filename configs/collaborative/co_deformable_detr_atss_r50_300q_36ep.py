"""Co-DETR with ATSS on plain Deformable-DETR, R50, 300 queries, 36 epochs: published AP 46.8."""

from ..baselines.deformable_detr_one_stage_fixed_r50_300q_36ep import (
    dataloader,
    lr_multiplier,
    model,
    optimizer,
    train,
)
from ..common.supervision.collaborative import add_atss

add_atss(model)
train.output_dir = "output/co_deformable_detr_atss_r50_300q_36ep"
