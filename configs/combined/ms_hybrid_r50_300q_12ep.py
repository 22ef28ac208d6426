"""MS-DETR (c) with H-DETR's hybrid branch, R50, 300 queries, 12 epochs on COCO."""

from ..common.supervision.hybrid import add_hybrid
from ..ms_detr.ms_detr_r50_300q_12ep import dataloader, lr_multiplier, model, optimizer, train

add_hybrid(model)
train.output_dir = "output/ms_hybrid_r50_300q_12ep"
