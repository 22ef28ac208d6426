"""Learn a handful of images by heart, masks too, with `tools/overfit.py --masks`.

Images are resized to at most 480 pixels: at 320 every sixth object of the first images of COCO is
too small for masks of stride 4, however good they are.
"""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L

from .small_mask import dataloader, dataset, lr_multiplier, model, optimizer, train

dataloader.train.mapper.augmentations = [
    L(T.ResizeShortestEdge)(short_edge_length=360, max_size=480)
]
dataloader.test.mapper.augmentations = dataloader.train.mapper.augmentations
dataloader.train.num_workers = 0
dataloader.test.num_workers = 0

train.max_iter = 600
train.eval_period = 300
train.output_dir = "output/overfit_masks"
