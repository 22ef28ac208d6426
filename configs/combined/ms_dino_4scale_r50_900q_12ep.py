"""DINO with MS-DETR's supervision (c), R50, 900 queries, 12 epochs on COCO."""

from ..common.supervision.mixed import mix_c
from ..comparators.dino_4scale_r50_900q_12ep import (
    dataloader,
    lr_multiplier,
    model,
    optimizer,
    train,
)

mix_c(model)
train.output_dir = "output/ms_dino_4scale_r50_900q_12ep"
