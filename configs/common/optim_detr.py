"""The optimizer of Conditional DETR, DAB-DETR and DINO: AdamW, 1e-4, the backbone a tenth of it."""

from .optim import AdamW

AdamW.lr = 1e-4
AdamW.params.lr_multipliers = {"backbone": 0.1}
