"""Co-DETR with ATSS twice on Deformable-DETR++, R50, 300 queries, 12 epochs: published AP 49.2."""

from copy import deepcopy

from ..baselines.deformable_detr_pp_r50_300q_12ep import (
    dataloader,
    lr_multiplier,
    model,
    optimizer,
    train,
)
from ..common.supervision.collaborative import add_atss

add_atss(model)
model.supervisions.atss_2 = deepcopy(model.supervisions.atss)
train.output_dir = "output/co_deformable_detr_pp_atss_twice_r50_300q_12ep"
