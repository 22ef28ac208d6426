"""Train a small Mask-MS-DETR from scratch on any COCO-format json with masks, as `small.py` does
with boxes.
"""

from detectron2.config import LazyCall as L

from ms_detr.data import count_classes

from ..common.data.masks import add_masks
from ..models.ms_detr_mask_small import model
from .small import dataloader, dataset, lr_multiplier, optimizer, train

model.heads.num_classes = L(count_classes)(json_file="${dataset.train_json}")
model.queries.num_queries = 100
# More pairs to learn masks from, for a tenth of the time: a short training has better masks.
model.supervisions.mixed.masks = "${..one_to_one.masks}"
# With the published weight of 5 masks would be learned at the cost of classes, which come last.
model.supervisions.one_to_one.masks.mask.weight = 1.0
model.supervisions.one_to_one.masks.dice.weight = 1.0

add_masks(dataloader, maskless="error", recompute_boxes=False)
