"""The package's operators as arms of tools/benchmark_op.py, beside those of op_arms.py."""

from __future__ import annotations

from collections.abc import Callable

import op_arms
import torch
from op_arms import Problem
from torch import Tensor

from ms_detr.ops import fused_deform_attn, ms_deform_attn, reference

Arm = Callable[[], object]
PLAIN = ("value", "locations", "weights")
FUSED = ("value", "reference", "offsets", "logits")


def ours(p: Problem) -> Tensor:
    """The compiled operator."""
    return ms_deform_attn(p.value, p.shapes, p.locations, p.weights)


def fused(p: Problem) -> Tensor:
    """The compiled operator with softmax and locations inside."""
    return fused_deform_attn(p.value, p.shapes, p.reference, p.offsets, p.logits)


def pytorch(p: Problem) -> Tensor:
    """The package's PyTorch implementation, forward only."""
    return reference.forward(p.value, _flat(p), p.locations, p.weights)


def _flat(p: Problem) -> list[int]:
    return [side for shape in p.shapes for side in shape]


def forward_arms(p: Problem, **forms: Callable[[Problem], Tensor]) -> dict[str, Arm]:
    """The forms as arms, after a check that all of them compute the same."""
    wanted = op_arms.official(p)
    for name, form in forms.items():
        error = (form(p) - wanted).abs().max().item()
        if not error < 1e-3 * max(1.0, wanted.abs().max().item()):
            raise RuntimeError(f"{name} is off by {error}")
    return {name: lambda form=form: form(p) for name, form in forms.items()}


def gradient_arm(
    p: Problem, form: Callable[[Problem], Tensor], names: tuple[str, ...] = PLAIN
) -> Arm:
    """Forward and backward of a form, with gradients of the inputs that are named."""
    leaves = {name: getattr(p, name).clone().requires_grad_() for name in names}
    inputs = Problem(**{**vars(p), **leaves})
    return lambda: torch.autograd.grad(form(inputs), list(leaves.values()), p.grad)


def pytorch_gradient_arm(p: Problem) -> Arm:
    """The same of the PyTorch implementation."""

    def run() -> object:
        flat = _flat(p)
        output = reference.forward(p.value, flat, p.locations, p.weights)
        return output, reference.backward(p.grad, p.value, flat, p.locations, p.weights)

    return run
