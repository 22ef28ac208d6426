"""DN-DETR, R50, 5 groups of noise, 12 epochs on COCO: published AP 38.6."""

from ..baselines.dab_detr_r50_300q_12ep import dataloader, lr_multiplier, model, optimizer, train
from ..common.supervision.denoising import add_denoising

add_denoising(model)
train.output_dir = "output/dn_dab_detr_r50_300q_12ep"
