"""How the reference boxes of the next layer come from the boxes of this one."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from ..heads.boxes import apply_delta


class References(NamedTuple):
    """References (B, N, r) of a layer: what it attends around, what its boxes are relative to."""

    attention: Tensor
    prediction: Tensor


class Refinement:
    """Rule by which references move from layer to layer."""

    def __call__(self, delta_BN4: Tensor, reference_BNr: Tensor) -> References:
        """Apply it.

        Args:
            delta_BN4: this layer's output of the box head, in logits.
            reference_BNr: what this layer attended around.
        """
        raise NotImplementedError


class DetachedRefinement(Refinement):
    """Iterative box refinement of Deformable DETR (A.4.2): no gradient flows between layers."""

    def __call__(self, delta_BN4: Tensor, reference_BNr: Tensor) -> References:
        boxes = apply_delta(delta_BN4, reference_BNr).detach()
        return References(boxes, boxes)


class LookForwardTwice(Refinement):
    """Boxes of the next layer also teach this layer's box head (DINO, section 3.6)."""

    def __call__(self, delta_BN4: Tensor, reference_BNr: Tensor) -> References:
        boxes = apply_delta(delta_BN4, reference_BNr)
        return References(boxes.detach(), boxes)
