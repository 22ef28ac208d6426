"""MS-DETR, implementation (c), on Deformable-DETR++."""

from ..common.supervision.mixed import mix
from .deformable_detr_pp import model

mix(model)
