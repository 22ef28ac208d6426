"""MS-DETR, implementation (c), and Co-DAB-DETR-C5, K = 2: ATSS and Faster R-CNN."""

from ..common.supervision.collaborative import add_collaborative
from ..common.supervision.mixed import mix_c
from .dab_detr_r50 import model

mix_c(model)
add_collaborative(model, "atss", "faster_rcnn")
