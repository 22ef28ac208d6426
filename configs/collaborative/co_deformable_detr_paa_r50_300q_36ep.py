"""Co-DETR with PAA on plain Deformable-DETR, R50, 300 queries, 36 epochs: published AP 46.5."""

from ..baselines.deformable_detr_one_stage_fixed_r50_300q_36ep import (
    dataloader,
    lr_multiplier,
    model,
    optimizer,
    train,
)
from ..common.supervision.collaborative import add_paa

add_paa(model)
train.output_dir = "output/co_deformable_detr_paa_r50_300q_36ep"
