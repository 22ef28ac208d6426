"""MS-DETR, implementation (c), on Deformable-DETR."""

from ..common.supervision.mixed import mix
from .deformable_detr import model

mix(model)
