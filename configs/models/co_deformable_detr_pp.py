"""Co-Deformable-DETR++, K = 2: ATSS and Faster R-CNN on Deformable-DETR++, the released model."""

from ..common.supervision.collaborative import add_collaborative
from .deformable_detr_pp import model

add_collaborative(model, "atss", "faster_rcnn")
