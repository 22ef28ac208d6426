"""Definition of the operators ``ms_detr::*``: schema, tracing, autograd, autocast, fallback.

This file is the one place with the schemas. The C++ extension only adds kernels for the CPU and
CUDA; where it has none, dispatch falls through to the PyTorch implementation registered here for
all devices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ms_detr.ops import extension, reference
from ms_detr.ops.checks import wide_dtype

_library = torch.library.Library("ms_detr", "FRAGMENT")  # registrations live as long as this object
_library.define(
    "ms_deform_attn(Tensor value, SymInt[] shapes, Tensor locations, Tensor weights) -> Tensor",
    tags=(torch.Tag.pt2_compliant_tag,),
)
_library.define(
    "ms_deform_attn_backward(Tensor grad, Tensor value, SymInt[] shapes, Tensor locations, "
    "Tensor weights) -> (Tensor, Tensor, Tensor)",
    tags=(torch.Tag.pt2_compliant_tag,),
)
_forward = torch.ops.ms_detr.ms_deform_attn.default
_backward = torch.ops.ms_detr.ms_deform_attn_backward.default
AUTOCAST_DEVICES = ("cpu", "cuda")  # for which autocast is registered below
_AUTOCAST = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU) | torch._C.DispatchKeySet(
    torch._C.DispatchKey.AutocastCUDA
)


def _pytorch_forward(
    value: Tensor, shapes: Sequence[int], locations: Tensor, weights: Tensor
) -> Tensor:
    extension.warn_once(value.device.type)
    return reference.forward(value, shapes, locations, weights)


def _pytorch_backward(
    grad: Tensor, value: Tensor, shapes: Sequence[int], locations: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    extension.warn_once(value.device.type)
    return reference.backward(grad, value, shapes, locations, weights)


def _fake_forward(
    value: Tensor, _shapes: Sequence[int], locations: Tensor, _weights: Tensor
) -> Tensor:
    return value.new_empty((value.shape[0], locations.shape[1], value.shape[2] * value.shape[3]))


def _fake_backward(
    _grad: Tensor, value: Tensor, _shapes: Sequence[int], locations: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    # Kernels return contiguous gradients whatever the strides of the inputs.
    return (
        value.new_empty(value.shape),
        locations.new_empty(locations.shape),
        weights.new_empty(weights.shape),
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    value, shapes, locations, weights = inputs
    ctx.shapes = shapes
    ctx.save_for_backward(
        value, locations, weights
    )  # the inputs themselves: no copy, nothing recomputed


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    value, locations, weights = ctx.saved_tensors
    # One pass over the points gives all three; torch drops those of inputs that need none.
    of_value, of_locations, of_weights = _backward(grad, value, ctx.shapes, locations, weights)
    return of_value, None, of_locations, of_weights


def _refuse_second_derivative(ctx: Any, *grads: Tensor) -> None:
    raise NotImplementedError(
        "ms_deform_attn can be differentiated once only; its second derivative was asked for "
        "(create_graph=True)"
    )


def _autocast_forward(
    value: Tensor, shapes: Sequence[int], locations: Tensor, weights: Tensor
) -> Tensor:
    """Positions keep float32, since half precision cannot tell neighbouring pixels of a large map
    apart.

    ``value`` keeps its dtype: after a linear layer under autocast it is half precision already, and
    where a user made it float32 on purpose it stays so.
    """
    wide = wide_dtype(value)
    with torch._C._ExcludeDispatchKeyGuard(_AUTOCAST):
        return _forward(value, shapes, locations.to(wide), weights.to(wide))


_library.impl("ms_deform_attn", _pytorch_forward, "CompositeExplicitAutograd")
_library.impl("ms_deform_attn_backward", _pytorch_backward, "CompositeExplicitAutograd")
torch.library.register_fake("ms_detr::ms_deform_attn", _fake_forward, lib=_library)
torch.library.register_fake("ms_detr::ms_deform_attn_backward", _fake_backward, lib=_library)
torch.library.register_autograd(
    "ms_detr::ms_deform_attn", _differentiate, setup_context=_save, lib=_library
)
torch.library.register_autograd(
    "ms_detr::ms_deform_attn_backward", _refuse_second_derivative, lib=_library
)
for _device in AUTOCAST_DEVICES:
    _library.impl("ms_deform_attn", _autocast_forward, f"Autocast{_device.upper()}")
