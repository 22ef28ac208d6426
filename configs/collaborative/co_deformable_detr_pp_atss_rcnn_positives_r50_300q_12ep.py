"""Co-DETR with ATSS and Faster R-CNN on Deformable-DETR++, R50, 300 queries, 12 epochs.

Queries as in the paper's text: positives only; not published.
"""

from detectron2.config import LazyCall as L

from ms_detr.supervision.sources import PositivesOnly

from ..baselines.deformable_detr_pp_r50_300q_12ep import (
    dataloader,
    lr_multiplier,
    model,
    optimizer,
    train,
)
from ..common.supervision.collaborative import add_collaborative

add_collaborative(model, "atss", "faster_rcnn")
for name in ("atss", "faster_rcnn"):
    model.supervisions[name].source.selection = L(PositivesOnly)(most=300)
train.output_dir = "output/co_deformable_detr_pp_atss_rcnn_positives_r50_300q_12ep"
