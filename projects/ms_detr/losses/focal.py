"""What the focal loss is made of."""

from __future__ import annotations

from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# Beyond this softplus(x) is x, even in float64.
_LINEAR = 40.0
# Numbers that are worked on at a time: their intermediate results stay in the cache of a CPU, and
# memory for them is asked for once.
_AT_ONCE = 2**20


def focal_sums(logits_DX: Tensor, gamma: float) -> Tensor:
    """Row sums (D,) of sigmoid(x) ** gamma * softplus(x).

    That is the focal loss of calling x background, without its weight; of calling it the object's
    class, with -x in the place of x.  At -inf nothing is lost, and there is no gradient.  For the
    backward pass one tensor is kept, where the same in PyTorch's operators keeps eight.

    Args:
        logits_DX: class logits.
        gamma: at least 0.
    """
    return _FocalSums.apply(logits_DX, gamma)


class _FocalSums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits_DX: Tensor, gamma: float) -> Tensor:
        sums, slope_DX = [], torch.empty_like(logits_DX)
        size = max(1, _AT_ONCE // len(logits_DX))
        for logits, slope in zip(logits_DX.split(size, 1), slope_DX.split(size, 1)):
            probability = logits.sigmoid()
            penalty = F.softplus(logits, threshold=_LINEAR)
            weight = probability.pow(gamma)
            # p ** gamma * (gamma * (1 - p) * softplus(x) + p)
            torch.addcmul(penalty, penalty, probability, value=-1, out=slope)
            torch.add(probability, slope, alpha=gamma, out=slope).mul_(weight)
            sums.append(penalty.mul_(weight).sum(1))
        ctx.save_for_backward(slope_DX)
        return reduce(torch.add, sums)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient_D: Tensor) -> tuple[Tensor, None]:
        (slope_DX,) = ctx.saved_tensors
        return slope_DX * gradient_D[:, None], None
