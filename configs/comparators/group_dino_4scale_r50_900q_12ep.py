"""Group DETR on DINO, four levels, R50, 11 groups of 900, 12 epochs on COCO: published AP 50.1."""

from ..common.supervision.group import add_group
from ..comparators.dino_4scale_r50_900q_12ep import (
    dataloader,
    lr_multiplier,
    model,
    optimizer,
    train,
)

add_group(model)
train.output_dir = "output/group_dino_4scale_r50_900q_12ep"
