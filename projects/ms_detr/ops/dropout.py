"""Dropout whose mask is computed anew for the gradient instead of being kept.

Where there is a compiled kernel, ``ms_detr::dropout`` finds out by a counter-based generator
(Philox, see csrc/cpu/dropout.h) which numbers are dropped: the answer follows from a seed and from
the position, so it is the same for any number of threads, and in the backward pass. The seed comes
from torch's generator: ``torch.manual_seed`` decides.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ms_detr.ops import extension  # noqa: F401  (loads the kernels)
from ms_detr.ops.library import _library

_SEEDS = 2**63 - 1


def dropout(x: Tensor, p: float) -> Tensor:
    """Zero each number with probability ``p`` and divide the others by ``1 - p``.

    As ``torch.nn.functional.dropout`` in training, which computes it where nothing is compiled.

    Args:
        x: any shape, float32, float64, float16 or bfloat16.
        p: in [0, 1].
    """
    if not is_compiled(x) or p == 1:
        return F.dropout(x, p)
    return torch.ops.ms_detr.dropout(x, _draw_seed(), p)


def dropout_(x: Tensor, p: float) -> None:
    """The same in place and without a gradient, for who computes gradients by hand."""
    if not is_compiled(x) or p == 1:
        F.dropout(x, p, inplace=True)
    else:
        torch.ops.ms_detr.dropout_(x, _draw_seed(), p)


def is_compiled(x: Tensor) -> bool:
    """Whether there is a compiled kernel for the device of ``x``."""
    return x.device.type == "cpu" and _HAS_KERNEL


def _draw_seed() -> Tensor:
    return torch.randint(_SEEDS, (), dtype=torch.int64)


def _fake(x: Tensor, _seed: Tensor, _p: float) -> Tensor:
    return x.new_empty(x.shape)


def _fake_in_place(_x: Tensor, _seed: Tensor, _p: float) -> None:
    return None


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    _, seed, ctx.p = inputs
    ctx.save_for_backward(seed)


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
    # Dropout multiplies by numbers that depend on the seed alone, so it is its own gradient.
    return torch.ops.ms_detr.dropout(grad, *ctx.saved_tensors, ctx.p), None, None


_library.define(
    "dropout(Tensor x, Tensor seed, float p) -> Tensor", tags=(torch.Tag.pt2_compliant_tag,)
)
_library.define(
    "dropout_(Tensor(a!) x, Tensor seed, float p) -> ()", tags=(torch.Tag.pt2_compliant_tag,)
)
torch.library.register_fake("ms_detr::dropout", _fake, lib=_library)
torch.library.register_fake("ms_detr::dropout_", _fake_in_place, lib=_library)
torch.library.register_autograd(
    "ms_detr::dropout", _differentiate, setup_context=_save, lib=_library
)
_HAS_KERNEL = torch._C._dispatch_has_kernel_for_dispatch_key("ms_detr::dropout", "CPU")
