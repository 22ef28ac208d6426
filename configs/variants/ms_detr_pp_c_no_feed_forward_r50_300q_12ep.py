"""MS-DETR (c) without its feed-forward on Deformable-DETR++, R50, 300 queries, 12 epochs."""

from ..ms_detr.ms_detr_pp_r50_300q_12ep import dataloader, lr_multiplier, model, optimizer, train

model.supervisions.mixed.branch = None
train.output_dir = "output/ms_detr_pp_c_no_feed_forward_r50_300q_12ep"
