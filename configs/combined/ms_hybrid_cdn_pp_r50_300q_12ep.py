"""MS-DETR++ (c) with a hybrid branch and contrastive denoising, R50, 300 queries, 12 epochs."""

from ..common.supervision.denoising import add_contrastive_denoising
from ..common.supervision.hybrid import add_hybrid
from ..ms_detr.ms_detr_pp_r50_300q_12ep import dataloader, lr_multiplier, model, optimizer, train

add_hybrid(model)
add_contrastive_denoising(model)
train.output_dir = "output/ms_hybrid_cdn_pp_r50_300q_12ep"
