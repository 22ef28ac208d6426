"""Mask-MS-DETR: implementation (c) on Deformable-DETR, with a mask head."""

from ..common.mask_head import with_masks
from .ms_detr import model

with_masks(model)
