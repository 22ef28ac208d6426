"""Norm and scaling of all gradients, without waiting for the device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def gradient_norms(gradients: Sequence[Tensor]) -> Tensor:
    """L2 norm of each gradient, as one vector on their device, of at least float32.

    ``torch.nn.utils.clip_grad_norm_`` gives only the total, and by the time that it is known to
    be NaN has multiplied every gradient by it; the single norms tell which parameter it was.
    """
    norms = torch._foreach_norm(list(gradients))
    return torch.stack([norm.to(torch.promote_types(norm.dtype, torch.float32)) for norm in norms])


def scale_gradients(gradients: Sequence[Tensor], factor: float) -> None:
    """Multiplies the gradients in place; a factor of 1 costs nothing."""
    if factor != 1.0 and gradients:
        torch._foreach_mul_(list(gradients), factor)
