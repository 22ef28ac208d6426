"""DN-Deformable-DETR, R50, 10 groups of noise, 12 epochs on COCO: published AP 43.4."""

from ..baselines.dab_deformable_detr_r50_300q_12ep import (
    dataloader,
    lr_multiplier,
    model,
    optimizer,
    train,
)
from ..common.supervision.denoising import add_denoising

add_denoising(model, groups=10)
train.output_dir = "output/dn_dab_deformable_detr_r50_300q_12ep"
