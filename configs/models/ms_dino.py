"""DINO with MS-DETR's supervision (c) of its primary queries."""

from ..common.supervision.mixed import mix_c
from .dino import model

mix_c(model)
