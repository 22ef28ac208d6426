"""Optimizer and schedule for small models trained from scratch: nothing is pre-trained or slow."""

from detectron2.config import LazyCall as L
from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import CosineParamScheduler

from .optim import AdamW as optimizer

optimizer.lr = 2e-3
optimizer.params.lr_multipliers = {}

# Relative, so it fits any length: warm up, then fall along a cosine.
lr_multiplier = L(WarmupParamScheduler)(
    scheduler=L(CosineParamScheduler)(start_value=1.0, end_value=0.01),
    warmup_factor=0.01,
    warmup_length=0.06,
)
