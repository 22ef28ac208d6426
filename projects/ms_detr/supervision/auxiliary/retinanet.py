"""The head of RetinaNet."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.structures import Boxes, pairwise_iou
from torch import Tensor

from ...registry import AUXILIARY_HEADS
from .anchors import AnchorGrid, anchor_generator, anchor_grid
from .dense import DenseHead
from .head import BACKGROUND, UNUSED
from .maps import AuxiliaryMaps
from .tower import DenseTower

# What a matcher says of background, of what is neither, and of objects.
_LABELS = [0, -1, 1]


@AUXILIARY_HEADS.register()
class RetinaNetHead(DenseHead):
    """Several anchors in every cell, assigned by their IoU with the objects.

    From 0.5 an anchor is to find the object that it overlaps most, below 0.4 it is background,
    between them it is ignored (Co-DETR, Table 1).  The anchors that overlap an object most are
    positive in any case, so that small objects have some; detectron2's matcher lets also these
    find the object that *they* overlap most, which may be another one.  Focal loss and generalised
    IoU; boxes are R-CNN's deltas to the anchors.  Queries start from the positive anchors.

    Args:
        num_classes: classes of the detector.
        strides: of the maps, in pixels, finest level first.
        embed_dim: channels of the maps.
        num_convs: 3x3 convolutions before the predictors.
        num_groups: groups of their normalisation.
        scales: sides of the anchors, in strides; by default three in an octave, as in the paper.
        ratios: heights / widths of the anchors.
        class_weight, box_weight: factors of the losses.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        strides: Sequence[int],
        embed_dim: int = 256,
        num_convs: int = 1,
        num_groups: int = 32,
        scales: Sequence[float] = (4.0, 4 * 2 ** (1 / 3), 4 * 2 ** (2 / 3)),
        ratios: Sequence[float] = (0.5, 1.0, 2.0),
        class_weight: float = 1.0,
        box_weight: float = 2.0,
    ):
        tower = DenseTower(
            num_classes=num_classes,
            box_outputs=4,
            has_quality=False,
            per_cell=len(scales) * len(ratios),
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
        )
        self.anchors = anchor_generator(strides, scales, ratios)
        self.matcher = Matcher([0.4, 0.5], _LABELS, allow_low_quality_matches=True)
        self.transform = Box2BoxTransform(weights=(1.0, 1.0, 1.0, 1.0))

    def grid(self, pyramid: AuxiliaryMaps) -> AnchorGrid:
        return anchor_grid(self.anchors, pyramid)

    def assign(self, grid: AnchorGrid, boxes_G4: Tensor) -> Tensor:
        overlap_GA = pairwise_iou(Boxes(boxes_G4), Boxes(grid.boxes_A4))
        # The best anchors of an object that none overlaps would be all of them.
        met_X = (overlap_GA > 0).any(1).nonzero()[:, 0]
        row_A, label_A = self.matcher(overlap_GA[met_X])
        object_A = torch.full_like(row_A, BACKGROUND)
        positive_A = label_A == 1
        object_A[positive_A] = met_X[row_A[positive_A]]
        return object_A.masked_fill(label_A == -1, UNUSED)

    def decode(self, raw_PD: Tensor, grid: AnchorGrid, candidate_P: Tensor) -> Tensor:
        return self.transform.apply_deltas(raw_PD, grid.boxes_A4[candidate_P])
