"""The head of FCOS."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from torch import Tensor

from ...arguments import require_number, require_whole
from ...registry import AUXILIARY_HEADS
from .anchors import AnchorGrid, anchor_grid
from .dense import CenternessHead
from .head import BACKGROUND
from .maps import AuxiliaryMaps
from .tower import DenseTower

# Strides from a point to the end of the largest object of its level, and side of the box that a
# query starts from (Co-DETR, Table 1).
_REACH = 8.0
# Sides of a box are at most this many strides away from its point: farther than any map reaches.
_FARTHEST = 1000.0


@AUXILIARY_HEADS.register()
class FCOSHead(CenternessHead):
    """The centre of every cell, assigned by where it lies in an object and how large that is.

    A point is to find an object if it lies in the object and, in both directions, less than
    ``radius`` strides from its centre, and if the farthest side of the object is in the range of
    the level: up to 8 strides, and at least as far as the level before reaches (64 to 512 pixels
    for strides of 8 to 128); both ends belong to the range, the last one is open.  Of several
    objects it is to find the smallest, the first one if these are equal.

    Focal loss, generalised IoU weighted by centerness, and cross-entropy of centerness.  Distances
    of the sides are exponentials of the outputs in strides, as in the paper: unlike rectified
    outputs these have a gradient everywhere.  Queries start from boxes of 8 x 8 strides around the
    positive points.

    Args:
        num_classes: classes of the detector.
        strides: of the maps, in pixels, finest level first.
        embed_dim: channels of the maps.
        num_convs: 3x3 convolutions before the predictors.
        num_groups: groups of their normalisation.
        radius: of the area around an object's centre where points are positive, in strides.
        class_weight, box_weight, centerness_weight: factors of the losses.

    Raises:
        ValueError: strides are no whole numbers or do not increase, or a number is out of bounds.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        strides: Sequence[int],
        embed_dim: int = 256,
        num_convs: int = 1,
        num_groups: int = 32,
        radius: float = 1.5,
        class_weight: float = 1.0,
        box_weight: float = 2.0,
        centerness_weight: float = 1.0,
    ):
        tower = DenseTower(
            num_classes=num_classes,
            box_outputs=4,
            has_quality=True,
            per_cell=1,
            num_levels=len(strides),
            embed_dim=embed_dim,
            num_convs=num_convs,
            num_groups=num_groups,
        )
        super().__init__(
            tower=tower,
            num_classes=num_classes,
            class_weight=class_weight,
            box_weight=box_weight,
            centerness_weight=centerness_weight,
        )
        _require_increasing(strides)
        require_number("radius of FCOSHead", radius, 0, above=True)
        self.radius = radius
        reaches = [_REACH * stride for stride in strides[:-1]]
        self.ranges = tuple(pairwise([0.0, *reaches, math.inf]))
        self.boxes = DefaultAnchorGenerator(
            sizes=[[_REACH * stride] for stride in strides],
            aspect_ratios=[[1.0]],
            strides=list(strides),
            offset=0.5,
        )

    def grid(self, pyramid: AuxiliaryMaps) -> AnchorGrid:
        """The points, as centres of the boxes that queries start from."""
        return anchor_grid(self.boxes, pyramid)

    def assign(self, grid: AnchorGrid, boxes_G4: Tensor) -> Tensor:
        points_A12, stride_A1 = _points(grid.boxes_A4)
        low_G2, high_G2 = boxes_G4.chunk(2, dim=1)
        sides_AG4 = torch.cat([points_A12 - low_G2, high_G2 - points_A12], 2)
        off_AG2 = (points_A12 - (low_G2 + high_G2) / 2).abs()
        central_AG = (off_AG2.amax(2) < self.radius * stride_A1) & (sides_AG4.amin(2) > 0)
        farthest_AG = sides_AG4.amax(2)
        low_A1, high_A1 = self._range_of_level(grid)
        fits_AG = central_AG & (farthest_AG >= low_A1) & (farthest_AG <= high_A1)
        area_G = (high_G2 - low_G2).prod(1)
        area_AG = area_G.expand_as(fits_AG).masked_fill(~fits_AG, math.inf)
        return area_AG.argmin(1).masked_fill(~fits_AG.any(1), BACKGROUND)

    def decode(self, raw_PD: Tensor, grid: AnchorGrid, candidate_P: Tensor) -> Tensor:
        points_P12, stride_P1 = _points(grid.boxes_A4[candidate_P])
        # Outputs of half precision have become float32 in the tower: nothing overflows.
        sides_PD = raw_PD.clamp(max=math.log(_FARTHEST)).exp() * stride_P1
        before_P2, behind_P2 = sides_PD.chunk(2, dim=1)
        return torch.cat([points_P12[:, 0] - before_P2, points_P12[:, 0] + behind_P2], 1)

    def _range_of_level(self, grid: AnchorGrid) -> tuple[Tensor, Tensor]:
        """Least and largest distance (A, 1) of the farthest side of an object from each point."""
        low, high = (
            torch.cat(
                [grid.boxes_A4.new_full((count, 1), end) for count, end in zip(grid.counts, ends)]
            )
            for ends in zip(*self.ranges)
        )
        return low, high


def _points(boxes_A4: Tensor) -> tuple[Tensor, Tensor]:
    """Centres (A, 1, 2) of the boxes of a grid, and their strides (A, 1)."""
    low_A2, high_A2 = boxes_A4.chunk(2, dim=1)
    return (low_A2 + high_A2)[:, None] / 2, (high_A2 - low_A2)[:, :1] / _REACH


def _require_increasing(strides: Sequence[int]) -> None:
    for stride in strides:
        require_whole("strides of FCOSHead", stride)
    if any(first >= second for first, second in pairwise(strides)):
        raise ValueError(
            f"strides of FCOSHead must increase, got {list(strides)}: ranges of sizes follow from "
            f"them; list the finest level first"
        )
