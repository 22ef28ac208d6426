"""COCO 2017 with masks and large-scale jitter: the image fitted into a square of 0.1 to 2 times
1024 pixels, then cut or padded (with grey, at the right and at the bottom) to one of 1024.

What is padded counts as image. Evaluation is that of `coco.py`. Other sizes:
`dataloader.train.mapper.augmentations.0.target_height` and so on.
"""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L

from .coco_mask import dataloader

SIDE = 1024

dataloader.train.mapper.augmentations = [
    L(T.ResizeScale)(min_scale=0.1, max_scale=2.0, target_height=SIDE, target_width=SIDE),
    L(T.FixedSizeCrop)(crop_size=[SIDE, SIDE]),
    L(T.RandomFlip)(),
]
