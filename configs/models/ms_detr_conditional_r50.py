"""MS-DETR, implementation (c), on Conditional DETR."""

from ..common.supervision.mixed import mix_c
from .conditional_detr_r50 import model

mix_c(model)
