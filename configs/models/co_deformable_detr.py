"""Co-Deformable-DETR, K = 2: ATSS and Faster R-CNN on one-stage Deformable-DETR as it began.

That is the "Deformable-DETR" of the paper's Tables 2, 8 and 10, where it has AP 44.5 after 50
epochs: with box refinement it would have 46.2, with proposals 46.9. Its references are points, so
the queries of the heads start from the centres of their boxes, which are known to their contents.
"""

from ..common.supervision.collaborative import add_collaborative
from .deformable_detr_one_stage_fixed import model

add_collaborative(model, "atss", "faster_rcnn")
