"""Mask-Deformable-DETR: two-stage Deformable-DETR with a mask head, the baseline."""

from ..common.mask_head import with_masks
from .deformable_detr import model

with_masks(model)
