"""Adaptive choice of positives (ATSS)."""

from __future__ import annotations

import torch
from torch import Tensor

from ...arguments import require_whole
from ...assigners.selection import lowest_k_first
from ...overlap import intersection_over_union, planes_of
from .anchors import AnchorGrid
from .head import BACKGROUND

# Pixels that a centre must lie inside of a box, as in the released code: what lies on the border is
# outside, however the coordinates are rounded.
_INSIDE = 0.01


class ATSSAssigner:
    """Every object chooses among the anchors near it, by a threshold of its own (ATSS, 3.2).

    Its candidates are the ``top_k`` anchors of every level whose centres are nearest to its own.
    Those become positives that overlap it by at least the mean plus the standard deviation of the
    candidates' IoU and have their centre inside of it.  An anchor that several objects choose goes
    to the one with the largest IoU.  An object that holds no centre of an anchor gets none.

    Of equally near anchors the first of the grid are candidates, of equal objects the first one
    gets the anchor.

    Args:
        top_k: candidates on every level; a level with fewer anchors gives all it has.
    """

    def __init__(self, top_k: int = 9):
        require_whole("top_k of an auxiliary head", top_k)
        self.top_k = top_k

    def __call__(self, grid: AnchorGrid, boxes_G4: Tensor) -> Tensor:
        """Assign the anchors of one image.

        Args:
            grid: all its anchors.
            boxes_G4: objects in pixels, as corners; there is at least one.

        Returns:
            (A,) int64: index into ``boxes_G4``, or ``BACKGROUND``.
        """
        candidate_GM = self.candidates(grid, boxes_G4)
        anchors = planes_of(grid.boxes_A4[candidate_GM])
        objects = planes_of(boxes_G4)[..., None]
        iou_GM = intersection_over_union(anchors, objects)
        # Of a single candidate there is no unbiased deviation; it deviates by nothing.
        deviation_G1 = iou_GM.std(1, correction=min(1, iou_GM.shape[1] - 1), keepdim=True)
        enough_GM = iou_GM >= iou_GM.mean(1, keepdim=True) + deviation_G1
        low, high = anchors.chunk(2)
        center = (low + high) / 2
        reach = torch.cat([center - objects[:2], objects[2:] - center])
        positive_GM = enough_GM & (reach.amin(0) > _INSIDE)
        iou_GA = iou_GM.new_full((len(boxes_G4), len(grid.boxes_A4)), -1.0)
        iou_GA.scatter_(1, candidate_GM, iou_GM.masked_fill(~positive_GM, -1.0))
        best_A, object_A = iou_GA.max(0)
        return object_A.masked_fill(best_A < 0, BACKGROUND)

    def candidates(self, grid: AnchorGrid, boxes_G4: Tensor) -> Tensor:
        """The anchors (G, M) near every object, level by level, nearest first."""
        centers_A2 = (grid.boxes_A4[:, :2] + grid.boxes_A4[:, 2:]) / 2
        centers_G2 = (boxes_G4[:, :2] + boxes_G4[:, 2:]) / 2
        chosen, first = [], 0
        for level_X2 in centers_A2.split(grid.counts):
            distance_GX = (level_X2 - centers_G2[:, None]).square().sum(-1)
            chosen.append(first + lowest_k_first(distance_GX, self.top_k))
            first += len(level_X2)
        return torch.cat(chosen, 1)
