"""Co-DETR with ATSS on DINO, five levels, R50, 900 queries, 12 epochs: published AP 51.0."""

from ..common.supervision.collaborative import add_atss
from ..comparators.dino_5scale_r50_900q_12ep import (
    dataloader,
    lr_multiplier,
    model,
    optimizer,
    train,
)

add_atss(model)
train.output_dir = "output/co_dino_5scale_atss_r50_900q_12ep"
