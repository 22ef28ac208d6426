"""MS-DETR (c) and Co-DETR, ATSS, on Deformable-DETR++, R50, 300 queries.

12 epochs on COCO; not published.
"""

from ..common.supervision.collaborative import add_atss
from ..ms_detr.ms_detr_pp_r50_300q_12ep import dataloader, lr_multiplier, model, optimizer, train

add_atss(model)
train.output_dir = "output/ms_co_atss_pp_r50_300q_12ep"
