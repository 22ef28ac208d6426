"""MS-DETR, implementation (c), and Co-DINO, five levels, K = 2: ATSS and Faster R-CNN."""

from ..common.supervision.collaborative import add_collaborative
from ..common.supervision.mixed import mix_c
from ..common.supervision.quality import add_quality
from .dino_5scale import model

add_quality(model)
mix_c(model)
add_collaborative(model, "atss", "faster_rcnn")
