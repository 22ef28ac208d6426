"""MS-DETR, implementation (c), and Co-Deformable-DETR, K = 2: ATSS and Faster R-CNN."""

from ..common.supervision.collaborative import add_collaborative
from ..common.supervision.mixed import mix_c
from .deformable_detr_one_stage_fixed import model

mix_c(model)
add_collaborative(model, "atss", "faster_rcnn")
