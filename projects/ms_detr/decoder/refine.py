"""How the reference boxes of the next layer come from the states of this one."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from ..heads import BoxHeads
from ..heads.boxes import apply_delta


class References(NamedTuple):
    """References (B, N, r) of a layer: what it attends around, what its boxes are relative to."""

    attention: Tensor
    prediction: Tensor


class Refinement:
    """Rule by which references move from layer to layer."""

    def __call__(
        self, states_BNC: Tensor, reference_BNr: Tensor, box_heads: BoxHeads, layer: int
    ) -> References:
        """References of the next layer.

        Args:
            states_BNC: output of this layer.
            reference_BNr: what this layer attended around.
            box_heads: the detector's box heads.
            layer: index of this layer.
        """
        raise NotImplementedError


class FixedReference(Refinement):
    """References stay where the queries put them (Deformable DETR without box refinement)."""

    def __call__(
        self, states_BNC: Tensor, reference_BNr: Tensor, box_heads: BoxHeads, layer: int
    ) -> References:
        return References(reference_BNr, reference_BNr)


class DetachedRefinement(Refinement):
    """Iterative box refinement of Deformable DETR (A.4.2): no gradient flows between layers."""

    def __call__(
        self, states_BNC: Tensor, reference_BNr: Tensor, box_heads: BoxHeads, layer: int
    ) -> References:
        boxes = apply_delta(box_heads(states_BNC, layer), reference_BNr).detach()
        return References(boxes, boxes)


class LookForwardTwice(Refinement):
    """Boxes of the next layer also teach this layer's box head (DINO, section 3.6)."""

    def __call__(
        self, states_BNC: Tensor, reference_BNr: Tensor, box_heads: BoxHeads, layer: int
    ) -> References:
        boxes = apply_delta(box_heads(states_BNC, layer), reference_BNr)
        return References(boxes.detach(), boxes)
