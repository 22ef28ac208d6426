"""H-DETR on Deformable-DETR++, R50, 300 + 1500 queries, 36 epochs on COCO: published AP 50.0."""

from ..baselines.deformable_detr_pp_r50_300q_36ep import (
    dataloader,
    lr_multiplier,
    model,
    optimizer,
    train,
)
from ..common.supervision.hybrid import add_hybrid

add_hybrid(model)
train.output_dir = "output/h_deformable_detr_pp_r50_300q_36ep"
