"""MS-DETR++ (c) with DN-DETR's denoising, R50, 300 queries, 12 epochs on COCO."""

from ..common.supervision.denoising import add_denoising
from ..ms_detr.ms_detr_pp_r50_300q_12ep import dataloader, lr_multiplier, model, optimizer, train

add_denoising(model)
train.output_dir = "output/ms_dn_pp_r50_300q_12ep"
