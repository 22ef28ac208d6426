"""MS-DETR (c) on Deformable-DETR with the mask head of DETR, for comparison."""

from ..common.mask_head import attention
from .ms_detr_mask import model

model.mask_head = attention
