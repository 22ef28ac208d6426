"""The head of GFL."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...arguments import require_number, require_whole
from ...overlap import intersection_over_union, planes_of
from ...registry import AUXILIARY_HEADS
from ...structures import Targets
from .anchors import AnchorGrid, anchor_generator, anchor_grid
from .atss_assigner import ATSSAssigner
from .dense import DenseHead
from .distribution import distribution_focal_losses, expected_distances, side_logits
from .losses import Pairs, quality_focal_loss, shared_normalizer
from .maps import AuxiliaryMaps
from .tower import DenseOutput, DenseTower


@AUXILIARY_HEADS.register()
class GFLHead(DenseHead):
    """Assignment of ATSS; class scores that say how good the box is, boxes as distributions.

    A positive learns, at its object's class, the IoU of its box (quality focal loss).  The distance
    from the anchor's centre to each side is a distribution over 0, 1, ..., ``bins`` strides, which
    is taught by itself (distribution focal loss) and by its expectation (generalised IoU).  Both
    box losses are weighted by the positive's best class score, and divided by the sum of these
    weights.  Queries start from the positive anchors.

    Args:
        num_classes: classes of the detector.
        strides: of the maps, in pixels, finest level first.
        embed_dim: channels of the maps.
        num_convs: 3x3 convolutions before the predictors.
        num_groups: groups of their normalisation.
        top_k: candidates of an object on every level.
        scale: side of the anchors, in strides; they only decide who is positive.
        bins: largest distance, in strides.
        class_weight, box_weight, distribution_weight: factors of the losses; with twelve as factor
            of the supervision they are 12, 24 and 3.
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
        bins: int = 16,
        class_weight: float = 1.0,
        box_weight: float = 2.0,
        distribution_weight: float = 0.25,
    ):
        require_whole("bins of GFLHead", bins)
        require_number("distribution_weight of GFLHead", distribution_weight, 0)
        tower = DenseTower(
            num_classes=num_classes,
            box_outputs=4 * (bins + 1),
            has_quality=False,
            per_cell=1,
            num_levels=len(strides),
            embed_dim=embed_dim,
            num_convs=num_convs,
            num_groups=num_groups,
        )
        super().__init__(
            tower=tower, num_classes=num_classes, class_weight=class_weight, box_weight=box_weight
        )
        self.anchors = anchor_generator(strides, [scale], [1.0])
        self.assigner = ATSSAssigner(top_k)
        self.scale, self.distribution_weight = scale, distribution_weight

    def grid(self, pyramid: AuxiliaryMaps) -> AnchorGrid:
        return anchor_grid(self.anchors, pyramid)

    def assign(self, grid: AnchorGrid, boxes_G4: Tensor) -> Tensor:
        return self.assigner(grid, boxes_G4)

    def decode(self, raw_PD: Tensor, grid: AnchorGrid, candidate_P: Tensor) -> Tensor:
        points_P2, strides_P1 = self._points(grid, candidate_P)
        reach_P4 = expected_distances(side_logits(raw_PD)) * strides_P1
        return torch.cat([points_P2 - reach_P4[:, :2], points_P2 + reach_P4[:, 2:]], 1)

    def _points(self, grid: AnchorGrid, candidate_P: Tensor) -> tuple[Tensor, Tensor]:
        """Centres (P, 2) of some anchors and their strides (P, 1), in pixels."""
        low_P2, high_P2 = grid.boxes_A4[candidate_P].chunk(2, 1)
        return (low_P2 + high_P2) / 2, (high_P2 - low_P2)[:, :1] / self.scale

    def losses(
        self,
        output: DenseOutput,
        grid: AnchorGrid,
        object_BA: Tensor,
        targets: Targets,
        boxes_G4: Tensor,
    ) -> dict[str, Tensor]:
        pairs = Pairs.of(object_BA)
        raw_PD = output.boxes_BAD[pairs.image_P, pairs.candidate_P]
        number = shared_normalizer(output.logits_BAK.new_tensor(float(len(pairs.object_P))))
        best_P = output.logits_BAK[pairs.image_P, pairs.candidate_P].detach().sigmoid().amax(1)
        total = shared_normalizer(best_P.sum())
        of_class = quality_focal_loss(
            output.logits_BAK, object_BA, pairs, targets,
            self._quality(raw_PD, grid, pairs, boxes_G4),
        )  # fmt: skip
        of_boxes_P = self.giou_losses(output, grid, pairs, boxes_G4)
        of_sides_P = distribution_focal_losses(
            side_logits(raw_PD), self._distances(grid, pairs, boxes_G4)
        )
        return {
            "class": self.class_weight * of_class / number,
            "giou": self.box_weight * (of_boxes_P * best_P).sum() / total,
            "distribution": self.distribution_weight * (of_sides_P * best_P).sum() / total,
        }

    @torch.no_grad()
    def _quality(self, raw_PD: Tensor, grid: AnchorGrid, pairs: Pairs, boxes_G4: Tensor) -> Tensor:
        """IoU (P,) of the positives' boxes with their objects."""
        predicted = planes_of(self.decode(raw_PD, grid, pairs.candidate_P))
        return intersection_over_union(predicted, planes_of(boxes_G4[pairs.object_P]))

    def _distances(self, grid: AnchorGrid, pairs: Pairs, boxes_G4: Tensor) -> Tensor:
        """True distances (P, 4) of the positives' sides, in strides."""
        points_P2, strides_P1 = self._points(grid, pairs.candidate_P)
        low_P2, high_P2 = boxes_G4[pairs.object_P].chunk(2, 1)
        return torch.cat([points_P2 - low_P2, high_P2 - points_P2], 1) / strides_P1
