"""DINO's contrastive denoising on Deformable-DETR++, R50, 300 queries, 12 epochs on COCO."""

from ..baselines.deformable_detr_pp_r50_300q_12ep import (
    dataloader,
    lr_multiplier,
    model,
    optimizer,
    train,
)
from ..common.supervision.denoising import add_contrastive_denoising

add_contrastive_denoising(model)
train.output_dir = "output/cdn_deformable_detr_pp_r50_300q_12ep"
