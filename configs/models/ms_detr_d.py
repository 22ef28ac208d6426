"""MS-DETR, implementation (d), on Deformable-DETR."""

from ..common.supervision.mixed import mix_d
from .deformable_detr import model

mix_d(model)
