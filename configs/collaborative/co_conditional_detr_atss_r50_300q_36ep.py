"""Co-DETR with ATSS on Conditional DETR, R50, 300 queries, 36 epochs on COCO: published AP 41.5."""

from ..baselines.conditional_detr_r50_300q_36ep import (
    dataloader,
    lr_multiplier,
    model,
    optimizer,
    train,
)
from ..common.supervision.collaborative import add_atss

add_atss(model)
train.output_dir = "output/co_conditional_detr_atss_r50_300q_36ep"
