"""MS-DETR (c) with own one-to-many heads on Deformable-DETR, 300 queries, 12 epochs."""

from ..common.supervision.mixed import own_box_heads as _own_box_heads
from ..common.supervision.mixed import own_class_heads as _own_class_heads
from ..ms_detr.ms_detr_r50_300q_12ep import dataloader, lr_multiplier, model, optimizer, train

model.supervisions.mixed.box_heads = _own_box_heads
model.supervisions.mixed.class_heads = _own_class_heads
train.output_dir = "output/ms_detr_c_own_heads_r50_300q_12ep"
