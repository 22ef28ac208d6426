"""Co-DINO as released: four levels, quality focal loss, soft-NMS, R50, 900 queries.

12 epochs on COCO; not published.
"""

from ..common.supervision.collaborative import add_collaborative
from ..common.supervision.quality import add_quality
from ..comparators.dino_4scale_r50_900q_12ep import (
    dataloader,
    lr_multiplier,
    model,
    optimizer,
    train,
)

add_quality(model)
add_collaborative(model, "atss", "faster_rcnn")
# That of the released config; DINO's own is half of it.
optimizer.lr = 2e-4
train.output_dir = "output/co_dino_4scale_quality_atss_rcnn_r50_900q_12ep"
