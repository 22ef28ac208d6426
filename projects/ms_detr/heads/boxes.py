"""Boxes as logits: heads predict a shift of the reference in logit space."""

import torch
from torch import Tensor


def inverse_sigmoid(x: Tensor, eps: float = 1e-5) -> Tensor:
    """Logit of x in [0, 1]; x and 1 - x are at least ``eps``, so the result is finite."""
    x = x.clamp(0, 1)
    return torch.log(x.clamp(min=eps) / (1 - x).clamp(min=eps))


def apply_delta(delta: Tensor, reference: Tensor) -> Tensor:
    """Box that a head's output means.

    Args:
        delta: (..., 4), output of the box head.
        reference: (..., 4) box, or (..., 2) point: then width and height come from delta alone.

    Returns:
        (..., 4) boxes (cx, cy, w, h) in [0, 1].
    """
    r = reference.shape[-1]
    moved = delta[..., :r] + inverse_sigmoid(reference)
    return torch.cat([moved, delta[..., r:]], -1).sigmoid()
