"""The demo with Co-DETR's heads: what `make compare-co` leaves parts of out."""

from ..models.ms_co_small import model
from .shapes import dataloader, dataset, lr_multiplier, optimizer, train

model.heads.num_classes = 5
train.output_dir = "output/demo_co"
