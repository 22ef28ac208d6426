"""The small MS-DETR with a mask head: 1.6 M parameters, from scratch on a CPU."""

from ..common.mask_head import with_masks
from .ms_detr_small import model

with_masks(model)
model.mask_head.in_channels = {"res2": 64}
model.mask_head.mask_dim = 64
# The encoder's finest level is of stride 4 here, as the masks are.
model.mask_head.num_levels = 1
# Images of 128 pixels have 1024 cells of stride 4: more points would be the same ones again.
model.supervisions.one_to_one.masks.points.num_points = 1024
