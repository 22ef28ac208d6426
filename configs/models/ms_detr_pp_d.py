"""MS-DETR, implementation (d), on Deformable-DETR++."""

from ..common.supervision.mixed import mix_d
from .deformable_detr_pp import model

mix_d(model)
