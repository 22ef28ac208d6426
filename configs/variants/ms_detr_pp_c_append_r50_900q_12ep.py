"""MS-DETR (c), missing one-to-one pairs appended (the text), on Deformable-DETR++, 900 queries."""

from detectron2.config import LazyCall as L

from ms_detr.assigners import AppendMissing

from ..ms_detr.ms_detr_pp_r50_900q_12ep import dataloader, lr_multiplier, model, optimizer, train

model.supervisions.mixed.merge = L(AppendMissing)(source="one_to_one")
train.output_dir = "output/ms_detr_pp_c_append_r50_900q_12ep"
