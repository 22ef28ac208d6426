"""Co-DAB-DETR-C5, K = 2: ATSS and Faster R-CNN on a pyramid made of the encoder's map."""

from ..common.supervision.collaborative import add_collaborative
from .dab_detr_r50 import model

add_collaborative(model, "atss", "faster_rcnn")
