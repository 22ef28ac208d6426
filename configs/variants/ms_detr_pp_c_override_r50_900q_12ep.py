"""MS-DETR (c), one-to-one pairs for free queries (the code), on Deformable-DETR++, 900 queries."""

from detectron2.config import LazyCall as L

from ms_detr.assigners import OverrideByOneToMany

from ..ms_detr.ms_detr_pp_r50_900q_12ep import dataloader, lr_multiplier, model, optimizer, train

model.supervisions.mixed.merge = L(OverrideByOneToMany)(source="one_to_one")
train.output_dir = "output/ms_detr_pp_c_override_r50_900q_12ep"
