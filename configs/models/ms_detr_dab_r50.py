"""MS-DETR, implementation (c), on DAB-DETR."""

from ..common.supervision.mixed import mix_c
from .dab_detr_r50 import model

mix_c(model)
