"""Co-DETR with RetinaNet on plain Deformable-DETR, R50, 300 queries.

36 epochs on COCO: published AP 46.1.
"""

from ..baselines.deformable_detr_one_stage_fixed_r50_300q_36ep import (
    dataloader,
    lr_multiplier,
    model,
    optimizer,
    train,
)
from ..common.supervision.collaborative import add_retinanet

add_retinanet(model)
train.output_dir = "output/co_deformable_detr_retinanet_r50_300q_36ep"
