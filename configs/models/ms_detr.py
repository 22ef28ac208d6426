"""MS-DETR, implementation (c), on Deformable-DETR."""

from ..common.supervision.mixed import mix_c
from .deformable_detr import model

mix_c(model)
