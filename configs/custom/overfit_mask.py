"""Learn a handful of images by heart, masks too, with `tools/overfit.py --masks`."""

from .small_mask import dataloader, dataset, lr_multiplier, model, optimizer, train

dataloader.train.mapper.augmentations = dataloader.test.mapper.augmentations
dataloader.train.num_workers = 0
dataloader.test.num_workers = 0

train.max_iter = 600
train.eval_period = 300
train.output_dir = "output/overfit_masks"
