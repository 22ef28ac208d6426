"""MS-DETR (c) and Co-DINO, five levels, as released but for the former, R50, 900 queries.

12 epochs on COCO; not published.
"""

from ..common.supervision.collaborative import add_collaborative
from ..common.supervision.mixed import mix_c
from ..common.supervision.quality import add_quality
from ..comparators.dino_5scale_r50_900q_12ep import (
    dataloader,
    lr_multiplier,
    model,
    optimizer,
    train,
)

add_quality(model)
mix_c(model)
add_collaborative(model, "atss", "faster_rcnn")
# That of the released config; DINO's own is half of it.
optimizer.lr = 2e-4
train.output_dir = "output/ms_co_atss_rcnn_dino_5scale_r50_900q_12ep"
