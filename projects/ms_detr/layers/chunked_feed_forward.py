"""A feed-forward network of two linear layers that keeps its hidden layer once.

Hidden layers are the largest tensors of a transformer.  Autograd keeps three of that size (behind
the activation, the dropout's mask, behind the dropout) and makes three more in the backward pass.
What is left after ReLU and dropout suffices for all gradients: a hidden number is zero exactly
where one of them stopped it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..ops import dropout_

# Hidden numbers computed at once on a CPU: few enough to stay in the cache, enough for a fast
# product of matrices.  Elsewhere everything is computed at once.
_CPU_CHUNK = 2**21


def chunked_feed_forward(
    x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor, p: float = 0.0
) -> Tensor:
    """``linear2(dropout(relu(linear1(x))))``, differentiable once.

    Under autocast it is computed in autocast's dtype; gradients of weights are then summed up in
    the weights' own dtype.

    Args:
        x: (..., C).
        weight1, bias1: (F, C) and (F,), of the first linear layer.
        weight2, bias2: (D, F) and (D,), of the second one.
        p: probability of a hidden number to be dropped.

    Returns:
        (..., D).
    """
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if _is_autocast(device) else x.dtype
    with _without_autocast(device):
        return _FeedForward.apply(x, weight1, bias1, weight2, bias2, p, dtype)


class _FeedForward(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: D102
        ctx: Any,
        x: Tensor,
        weight1: Tensor,
        bias1: Tensor,
        weight2: Tensor,
        bias2: Tensor,
        p: float,
        dtype: torch.dtype,
    ) -> Tensor:
        rows = x.reshape(-1, x.shape[-1]).to(dtype)
        w1, b1, w2, b2 = (t.to(dtype) for t in (weight1, bias1, weight2, bias2))
        hidden = rows.new_empty(len(rows), len(w1))
        output = rows.new_empty(len(rows), len(w2))
        for part in _parts(hidden):
            torch.addmm(b1, rows[part], w1.t(), out=hidden[part]).relu_()
            if p > 0:
                dropout_(hidden[part], p)
            torch.addmm(b2, hidden[part], w2.t(), out=output[part])
        ctx.save_for_backward(rows, hidden, weight1, weight2)
        ctx.p, ctx.shape, ctx.dtype = p, x.shape, x.dtype
        return output.view(*x.shape[:-1], len(w2))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: D102
        rows, hidden, weight1, weight2 = ctx.saved_tensors
        grad = grad.reshape(-1, grad.shape[-1])
        with _without_autocast(grad.device.type):
            gradients = _gradients(grad, rows, hidden, weight1, weight2, ctx.p)
        of_rows, *of_weights = gradients
        return of_rows.to(ctx.dtype).view(ctx.shape), *of_weights, None, None


def _gradients(
    grad: Tensor, rows: Tensor, hidden: Tensor, weight1: Tensor, weight2: Tensor, p: float
) -> tuple[Tensor, ...]:
    """Gradients of rows, weight1, bias1, weight2 and bias2."""
    w1, w2 = weight1.to(grad.dtype), weight2.to(grad.dtype)
    of_rows, of_w1, of_w2 = (torch.empty_like(rows), *map(torch.zeros_like, (weight1, weight2)))
    of_b1 = weight1.new_zeros(len(weight1))
    # Kept numbers were scaled; here the narrow gradient is, instead of the wide one.
    scaled = grad / (1 - p) if p > 0 else grad
    for part in _parts(hidden):
        of_hidden = scaled[part] @ w2
        torch.ops.aten.threshold_backward.grad_input(
            of_hidden, hidden[part], 0, grad_input=of_hidden
        )
        torch.mm(of_hidden, w1, out=of_rows[part])
        _add_product(of_w1, of_hidden, rows[part])
        _add_product(of_w2, grad[part], hidden[part])
        of_b1 += of_hidden.sum(0, dtype=of_b1.dtype)
    return of_rows, of_w1, of_b1, of_w2, grad.sum(0, dtype=of_b1.dtype)


def _is_autocast(device: str) -> bool:
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def _without_autocast(device: str) -> AbstractContextManager[None]:
    return torch.autocast(device, enabled=False) if _is_autocast(device) else nullcontext()


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add left^T right, in the dtype of ``total``."""
    if total.dtype == left.dtype:
        total.addmm_(left.t(), right)
    else:
        total += left.t() @ right


def _parts(hidden: Tensor) -> Iterator[slice]:
    """Rows to compute at once: parts of about the same size."""
    count, width = hidden.shape
    most = max(1, _CPU_CHUNK // width) if hidden.device.type == "cpu" else max(1, count)
    step = -(-count // max(1, -(-count // most)))
    for first in range(0, count, max(1, step)):
        yield slice(first, first + step)
