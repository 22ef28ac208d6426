"""MS-DETR, implementation (a), on Deformable-DETR++."""

from ..common.supervision.mixed import mix_a
from .deformable_detr_pp import model

mix_a(model)
