"""MS-DETR++ (c) with DINO's contrastive denoising, as its authors had it; R50, 900 queries."""

from ..common.supervision.denoising import add_contrastive_denoising
from ..ms_detr.ms_detr_pp_r50_900q_12ep import dataloader, lr_multiplier, model, optimizer, train

add_contrastive_denoising(model)
train.output_dir = "output/ms_cdn_pp_r50_900q_12ep"
