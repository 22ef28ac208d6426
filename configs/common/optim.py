"""The published optimizer: AdamW, 2e-4, and a tenth of it where pre-trained or sensitive."""

import torch
from detectron2.config import LazyCall as L

from ms_detr.engine.parameters import get_parameter_groups

AdamW = L(torch.optim.AdamW)(
    params=L(get_parameter_groups)(
        # params.model is set before the optimizer is instantiated.
        base_lr="${..lr}",
        # Only a one-stage model has reference_points.
        lr_multipliers={"backbone": 0.1, "sampling_offsets": 0.1, "reference_points": 0.1},
    ),
    lr=2e-4,
    betas=(0.9, 0.999),
    weight_decay=1e-4,
    # One pass over all states, on CPUs and CUDA; fused=null takes torch's choice elsewhere.
    fused=True,
)
