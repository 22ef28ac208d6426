"""MS-DETR (b) on Deformable-DETR, R50, 300 queries, 12 epochs on COCO."""

from ..models.ms_detr_b import model
from ..ms_detr.ms_detr_r50_300q_12ep import dataloader, lr_multiplier, optimizer, train

train.output_dir = "output/ms_detr_b_r50_300q_12ep"
