"""MS-DETR (c) and Co-DETR, ATSS and Faster R-CNN, on plain Deformable-DETR, R50, 300 queries.

36 epochs on COCO; not published.
"""

from ..baselines.deformable_detr_one_stage_fixed_r50_300q_36ep import (
    dataloader,
    lr_multiplier,
    model,
    optimizer,
    train,
)
from ..common.supervision.collaborative import add_collaborative
from ..common.supervision.mixed import mix_c

mix_c(model)
add_collaborative(model, "atss", "faster_rcnn")
train.output_dir = "output/ms_co_atss_rcnn_one_stage_fixed_r50_300q_36ep"
