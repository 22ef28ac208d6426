"""MS-DETR (c) and Co-DETR, ATSS and Faster R-CNN, on Deformable-DETR, R50, 300 queries.

12 epochs on COCO; not published.
"""

from ..common.supervision.collaborative import add_collaborative
from ..ms_detr.ms_detr_r50_300q_12ep import dataloader, lr_multiplier, model, optimizer, train

add_collaborative(model, "atss", "faster_rcnn")
train.output_dir = "output/ms_co_atss_rcnn_r50_300q_12ep"
