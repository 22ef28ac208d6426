"""DN-Deformable-DETR, R50, 10 groups of noise, 50 epochs on COCO: published AP 48.6."""

from ..baselines.dab_deformable_detr_r50_300q_50ep import (
    dataloader,
    lr_multiplier,
    model,
    optimizer,
    train,
)
from ..common.supervision.denoising import add_denoising

add_denoising(model, groups=10)
train.output_dir = "output/dn_dab_deformable_detr_r50_300q_50ep"
