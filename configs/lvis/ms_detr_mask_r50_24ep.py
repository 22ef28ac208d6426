"""Mask-MS-DETR, R50, 300 queries, 24 epochs on LVIS v1: boxes and masks."""

from ..common.mask_head import with_masks
from .ms_detr_r50_300q_24ep import dataloader, lr_multiplier, model, optimizer, train

with_masks(model)
dataloader.evaluator.tasks = ["bbox", "segm"]

train.output_dir = "output/lvis_ms_detr_mask_r50_24ep"
