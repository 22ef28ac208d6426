"""The head of ATSS."""

from __future__ import annotations

from collections.abc import Sequence

from detectron2.modeling.box_regression import Box2BoxTransform
from torch import Tensor

from ...registry import AUXILIARY_HEADS
from .anchors import AnchorGrid, anchor_generator, anchor_grid
from .atss_assigner import ATSSAssigner
from .dense import CenternessHead
from .maps import AuxiliaryMaps
from .tower import DenseTower


@AUXILIARY_HEADS.register()
class ATSSHead(CenternessHead):
    """One square anchor in every cell, assigned by :class:`.atss_assigner.ATSSAssigner`.

    Focal loss, generalised IoU weighted by centerness, and cross-entropy of centerness; boxes are
    R-CNN's deltas to the anchors.  Queries start from the positive anchors.  Defaults are those of
    the released configs of Co-DETR; with twelve as factor of the supervision (2 in each of six
    layers) they give its weights 12, 24 and 12.

    Args:
        num_classes: classes of the detector.
        strides: of the maps, in pixels, finest level first.
        embed_dim: channels of the maps.
        num_convs: 3x3 convolutions before the predictors.
        num_groups: groups of their normalisation.
        top_k: candidates of an object on every level.
        scale: side of the anchors, in strides.
        class_weight, box_weight, centerness_weight: factors of the losses.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        strides: Sequence[int],
        embed_dim: int = 256,
        num_convs: int = 1,
        num_groups: int = 32,
        top_k: int = 9,
        scale: float = 8.0,
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
        self.anchors = anchor_generator(strides, [scale], [1.0])
        self.assigner = ATSSAssigner(top_k)
        self.transform = Box2BoxTransform(weights=(10.0, 10.0, 5.0, 5.0))

    def grid(self, pyramid: AuxiliaryMaps) -> AnchorGrid:
        return anchor_grid(self.anchors, pyramid)

    def assign(self, grid: AnchorGrid, boxes_G4: Tensor) -> Tensor:
        return self.assigner(grid, boxes_G4)

    def decode(self, raw_PD: Tensor, grid: AnchorGrid, candidate_P: Tensor) -> Tensor:
        return self.transform.apply_deltas(raw_PD, grid.boxes_A4[candidate_P])
