"""Co-DETR with ATSS on Deformable-DETR++, R50, 300 queries, 12 epochs: published AP 48.7."""

from ..baselines.deformable_detr_pp_r50_300q_12ep import (
    dataloader,
    lr_multiplier,
    model,
    optimizer,
    train,
)
from ..common.supervision.collaborative import add_atss

add_atss(model)
train.output_dir = "output/co_deformable_detr_pp_atss_r50_300q_12ep"
