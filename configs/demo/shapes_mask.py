"""`make demo-masks`: a small Mask-MS-DETR on scenes of five shapes, from scratch, on two cores."""

from ..common.data.shapes_mask import dataloader, dataset
from ..common.from_scratch import lr_multiplier, optimizer
from ..common.train import train
from ..models.ms_detr_mask_small import model

model.heads.num_classes = 5
# More pairs to learn masks from, for a tenth of the time: a short training has better masks.
model.supervisions.mixed.masks = "${..one_to_one.masks}"
# With the published weight of 5 masks would be learned at the cost of classes, which come last.
model.supervisions.one_to_one.masks.mask.weight = 1.0
model.supervisions.one_to_one.masks.dice.weight = 1.0

train.max_iter = 2200
train.eval_period = 550
train.checkpointer.period = 550
train.clip_grad.max_norm = 1.0
train.output_dir = "output/demo_masks"
train.seed = 0
