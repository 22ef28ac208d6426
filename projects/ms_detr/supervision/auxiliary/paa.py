"""Probabilistic anchor assignment (PAA; Kim & Lee, ECCV 2020)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.structures import Boxes, pairwise_iou
from torch import Tensor

from ...arguments import require_whole
from ...losses.focal import focal_sums
from ...overlap import intersection_over_union, planes_of
from ...registry import AUXILIARY_HEADS
from ...structures import Targets
from .anchors import AnchorGrid, anchor_generator, anchor_grid
from .dense import QualityHead
from .head import BACKGROUND
from .losses import Pairs
from .maps import AuxiliaryMaps
from .mixture import likely_small
from .tower import DenseOutput, DenseTower

_LEAST_OVERLAP = 0.1  # of an anchor that may answer an object (section 4)
_ALPHA, _GAMMA = 0.25, 2.0  # of the focal loss


@AUXILIARY_HEADS.register()
class PAAHead(QualityHead):
    """Square anchors; who is positive follows from what the head would lose with each of them.

    Of every level the anchors with the least loss of an object are its candidates.  A mixture of
    two Gaussians over their losses parts them into positives and background, see
    :func:`.mixture.likely_small`.  A single candidate is positive, as in the paper's code; in
    mmdet's it is background.  The head also predicts the overlap of its boxes with the object, by
    which the box loss is weighted; detections are scored by the root of class times overlap.
    Without the paper's score voting.

    Args:
        num_classes: classes of the detector.
        strides: pixels from one cell to the next, per level.
        embed_dim, num_convs, num_groups: see :class:`.tower.DenseTower`.
        top_k: candidates of an object on each level.
        scale: side of the anchors, in strides.
        class_weight, box_weight, overlap_weight: factors of the losses; the first two also count
            in the losses that assign.
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
        box_weight: float = 1.3,
        overlap_weight: float = 0.5,
    ):
        require_whole("top_k of PAAHead", top_k)
        super().__init__(
            tower=DenseTower(
                num_classes=num_classes,
                box_outputs=4,
                has_quality=True,
                per_cell=1,
                num_levels=len(strides),
                embed_dim=embed_dim,
                num_convs=num_convs,
                num_groups=num_groups,
            ),
            num_classes=num_classes,
            class_weight=class_weight,
            box_weight=box_weight,
            quality_name="overlap",
            quality_weight=overlap_weight,
        )
        self.top_k = top_k
        self.anchors = anchor_generator(strides, scales=[scale], ratios=[1.0])
        self.transform = Box2BoxTransform(weights=(10.0, 10.0, 5.0, 5.0))

    def grid(self, pyramid: AuxiliaryMaps) -> AnchorGrid:
        return anchor_grid(self.anchors, pyramid)

    def decode(self, raw_PD: Tensor, grid: AnchorGrid, candidate_P: Tensor) -> Tensor:
        return self.transform.apply_deltas(raw_PD, grid.boxes_A4[candidate_P])

    def scores(self, output: DenseOutput) -> Tensor:
        return super().scores(output).sqrt()

    def quality(
        self, output: DenseOutput, grid: AnchorGrid, pairs: Pairs, boxes_G4: Tensor
    ) -> Tensor:
        """Overlap (P,) of the predicted boxes with their objects."""
        raw_PD = output.boxes_BAD[pairs.image_P, pairs.candidate_P].detach()
        predicted_P4 = self.decode(raw_PD, grid, pairs.candidate_P)
        return intersection_over_union(planes_of(predicted_P4), planes_of(boxes_G4[pairs.object_P]))

    def assign(self, grid: AnchorGrid, boxes_G4: Tensor) -> Tensor:
        """Whose candidate an anchor may be: the first step.

        It is that of the object that it overlaps most, if by enough.  The anchors that overlap an
        object most are the object's in any case; the last object has the first choice.
        """
        overlap_GA = pairwise_iou(Boxes(boxes_G4), Boxes(grid.boxes_A4))
        most_A, object_A = overlap_GA.max(0)
        best_GA = (overlap_GA == overlap_GA.amax(1, keepdim=True)) & (overlap_GA > 0)
        number_G1 = torch.arange(1, len(boxes_G4) + 1, device=boxes_G4.device)[:, None]
        best_A = (best_GA * number_G1).amax(0) - 1
        return best_A.where(best_A >= 0, object_A.masked_fill(most_A < _LEAST_OVERLAP, BACKGROUND))

    @torch.no_grad()
    def assigned(
        self, output: DenseOutput, grid: AnchorGrid, targets: Targets, boxes_G4: Tensor
    ) -> Tensor:
        """Who is to find what (B, A), given what is predicted."""
        candidate_BA = super().assigned(output, grid, targets, boxes_G4)
        pairs = Pairs.of(candidate_BA)
        if not len(pairs.object_P):
            return candidate_BA
        loss_P = self.loss_of_pairs(output, grid, pairs, targets, boxes_G4)
        positive_P = self._positives(loss_P, pairs, grid, len(boxes_G4))
        cells = (pairs.image_P, pairs.candidate_P)
        return candidate_BA.index_put(cells, pairs.object_P.masked_fill(~positive_P, BACKGROUND))

    def loss_of_pairs(
        self,
        output: DenseOutput,
        grid: AnchorGrid,
        pairs: Pairs,
        targets: Targets,
        boxes_G4: Tensor,
    ) -> Tensor:
        """What would be lost (P,) with each pair, of class and box, if it were positive."""
        logits_PK = output.logits_BAK[pairs.image_P, pairs.candidate_P]
        label_P1 = targets.labels_G[pairs.object_P, None]
        object_P1 = -logits_PK.gather(1, label_P1)
        others_PK = logits_PK.scatter(1, label_P1, -float("inf"))
        of_class_P = _ALPHA * focal_sums(object_P1, _GAMMA)
        of_class_P = of_class_P + (1 - _ALPHA) * focal_sums(others_PK, _GAMMA)
        of_box_P = self.giou_losses(output, grid, pairs, boxes_G4)
        return self.class_weight * of_class_P + self.box_weight * of_box_P

    def _positives(self, loss_P: Tensor, pairs: Pairs, grid: AnchorGrid, objects: int) -> Tensor:
        """Which pairs (P,) are positive: the second step."""
        levels = len(grid.counts)
        level_A = torch.cat(
            [loss_P.new_full((n,), i, dtype=torch.int64) for i, n in enumerate(grid.counts)]
        )
        group_P = pairs.object_P * levels + level_A[pairs.candidate_P]
        # All behind the first ones share a last column, in which nothing is taken.
        place_P = rank_in_group(loss_P, group_P).clamp(max=self.top_k)
        shape = (objects * levels, self.top_k + 1)
        loss_RN = loss_P.new_zeros(shape).index_put((group_P, place_P), loss_P)
        taken_RN = torch.zeros_like(loss_RN, dtype=torch.bool)
        taken_RN = taken_RN.index_put((group_P, place_P), place_P < self.top_k)
        small = likely_small(loss_RN.view(objects, -1), taken_RN.view(objects, -1))
        return small.view(shape)[group_P, place_P]


def rank_in_group(values_P: Tensor, group_P: Tensor) -> Tensor:
    """How many of its group come before each value (P,): the lesser ones, then the earlier ones."""
    order_P = values_P.argsort(stable=True)
    order_P = order_P[group_P[order_P].argsort(stable=True)]
    sorted_P = group_P[order_P]
    place_P = torch.arange(len(order_P), device=order_P.device)
    first_P = torch.searchsorted(sorted_P, sorted_P)
    return torch.empty_like(order_P).index_put((order_P,), place_P - first_P)
