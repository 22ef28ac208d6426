"""Co-DINO, four levels, K = 2: ATSS and Faster R-CNN, quality focal loss, soft-NMS."""

from ..common.supervision.collaborative import add_collaborative
from ..common.supervision.quality import add_quality
from .dino import model

add_quality(model)
add_collaborative(model, "atss", "faster_rcnn")
