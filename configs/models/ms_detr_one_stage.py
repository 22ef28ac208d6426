"""MS-DETR, implementation (c), on one-stage Deformable-DETR (not among the published results)."""

from ..common.supervision.mixed import mix_c
from .deformable_detr_one_stage import model

mix_c(model)
