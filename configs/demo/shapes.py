"""`make demo`: a small MS-DETR on scenes of five shapes, from scratch, minutes on two CPU cores."""

from ..common.data.shapes import dataloader, dataset
from ..common.optim import AdamW as optimizer
from ..common.schedule import from_scratch as lr_multiplier
from ..common.train import train
from ..models.ms_detr_small import model

model.heads.num_classes = 5

train.max_iter = 1600
train.eval_period = 400
train.checkpointer.period = 400
train.output_dir = "output/demo"
train.seed = 0

# Nothing is pre-trained here, so the backbone learns as fast as the rest.
optimizer.lr = 5e-4
optimizer.params.lr_multipliers.backbone = 1.0
