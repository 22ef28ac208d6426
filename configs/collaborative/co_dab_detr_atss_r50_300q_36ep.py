"""Co-DETR with ATSS on DAB-DETR, R50, 300 queries, 36 epochs on COCO: published AP 43.1."""

from ..baselines.dab_detr_r50_300q_36ep import dataloader, lr_multiplier, model, optimizer, train
from ..common.supervision.collaborative import add_atss

add_atss(model)
train.output_dir = "output/co_dab_detr_atss_r50_300q_36ep"
