"""MS-DETR (c) and Co-DETR, ATSS, on Deformable-DETR++, R50, 300 queries.

12 epochs on COCO; not published.
"""

from ..baselines.deformable_detr_pp_r50_300q_12ep import (
    dataloader,
    lr_multiplier,
    model,
    optimizer,
    train,
)
from ..common.supervision.collaborative import add_atss
from ..common.supervision.mixed import mix_c

mix_c(model)
add_atss(model)
train.output_dir = "output/ms_co_atss_pp_r50_300q_12ep"
