"""Co-DINO as released: five levels, quality focal loss, soft-NMS, jittered, R50, 900 queries.

12 epochs on COCO: published AP 52.1.
"""

from ..common.data.lsj import SIDE
from ..common.data.lsj import dataloader as _jittered
from ..common.supervision.collaborative import add_collaborative
from ..common.supervision.quality import add_quality
from ..comparators.dino_5scale_r50_900q_12ep import (
    dataloader,
    lr_multiplier,
    model,
    optimizer,
    train,
)

dataloader.train.mapper.augmentations = _jittered.train.mapper.augmentations
# Tested as large as it was trained, as in the released config.
dataloader.test.mapper.augmentations[0].update(short_edge_length=SIDE, max_size=SIDE)
add_quality(model)
add_collaborative(model, "atss", "faster_rcnn")
# That of the released config; DINO's own is half of it.
optimizer.lr = 2e-4
train.output_dir = "output/co_dino_5scale_quality_atss_rcnn_lsj_r50_900q_12ep"
