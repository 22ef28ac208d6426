"""Train Mask-MS-DETR on Deformable-DETR++, R50, on any COCO-format json with masks.

Paths, length and learning rate are given as for `finetune.py`. The json may leave out boxes; those
of the masks take their place. `train.init_checkpoint` may be a detector without masks.
"""

from ..common.data.custom_mask import dataloader, dataset
from ..common.mask_head import with_masks
from .finetune import lr_multiplier, model, optimizer, train

with_masks(model)
