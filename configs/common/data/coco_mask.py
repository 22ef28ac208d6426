"""COCO 2017 with masks, augmented as in `coco.py`.

After a crop, boxes are those of what is left of the masks.
"""

from .coco import dataloader
from .masks import add_masks

add_masks(dataloader, maskless="skip", recompute_boxes=True)
