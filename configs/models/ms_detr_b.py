"""MS-DETR, implementation (b), on Deformable-DETR."""

from ..common.supervision.mixed import mix_b
from .deformable_detr import model

mix_b(model)
