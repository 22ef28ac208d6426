"""Co-DETR with ATSS six times on Deformable-DETR++, R50, 300 queries.

12 epochs on COCO: published AP 49.5.
"""

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
for number in range(2, 7):
    model.supervisions[f"atss_{number}"] = deepcopy(model.supervisions.atss)
train.output_dir = "output/co_deformable_detr_pp_atss_six_times_r50_300q_12ep"
