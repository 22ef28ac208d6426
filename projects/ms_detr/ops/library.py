"""How an operator ``ms_detr::*`` is made known to torch: schema, tracing, autograd, autocast.

All operators of the project have one form: a value, the sizes of the levels, and tensors that say
where the value is read and with which weights; (B, N, H * c) comes out. So what torch must know of
them is said once, here. The C++ extension only adds kernels; where it has none, dispatch falls
through to the PyTorch implementation given to :func:`define`, on any device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ms_detr.ops.checks import wide_dtype

AUTOCAST_DEVICES = ("cpu", "cuda")  # for which autocast is registered below
_AUTOCAST = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU) | torch._C.DispatchKeySet(
    torch._C.DispatchKey.AutocastCUDA
)
_library = torch.library.Library("ms_detr", "FRAGMENT")  # registrations live as long as this object


def is_autocast(device_type: str) -> bool:
    """Whether calls on this type of device go through the autocast rule below at the moment."""
    return device_type in AUTOCAST_DEVICES and torch.is_autocast_enabled(device_type)


def define(
    name: str,
    positions: Sequence[str],
    forward: Callable[..., Tensor],
    backward: Callable[..., tuple[Tensor, ...]],
) -> None:
    """Define ``ms_detr::<name>(value, shapes, *positions)`` and ``ms_detr::<name>_backward``.

    Args:
        name: of the operator.
        positions: names of its tensors beside ``value``; the first of them is (B, N, ...).
        forward: PyTorch implementation, used where there is no kernel.
        backward: the same of the gradients, (grad, value, shapes, *positions) -> one gradient for
            ``value`` and each of the positions, contiguous.
    """
    inputs = "Tensor value, SymInt[] shapes, " + ", ".join(f"Tensor {p}" for p in positions)
    gradients = ", ".join(["Tensor"] * (1 + len(positions)))
    _define(f"{name}({inputs}) -> Tensor", forward, _fake_forward)
    _define(f"{name}_backward(Tensor grad, {inputs}) -> ({gradients})", backward, _fake_backward)
    operator = getattr(torch.ops.ms_detr, name).default
    gradient = getattr(torch.ops.ms_detr, f"{name}_backward").default

    def differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        value, *others = ctx.saved_tensors
        # One pass over the points gives all of them; torch drops those of inputs that need none.
        of_value, *of_others = gradient(grad, value, ctx.shapes, *others)
        return of_value, None, *of_others

    def refuse(ctx: Any, *grads: Tensor) -> None:  # noqa: ARG001
        raise NotImplementedError(
            f"{name} can be differentiated once only; its second derivative was asked for "
            "(create_graph=True)"
        )

    def autocast(value: Tensor, shapes: Sequence[int], *others: Tensor) -> Tensor:
        """Positions keep float32, since half precision cannot tell neighbouring pixels of a large
        map apart.

        ``value`` keeps its dtype: after a linear layer under autocast it is half precision already,
        and where a user made it float32 on purpose it stays so.
        """
        wide = wide_dtype(value)
        with torch._C._ExcludeDispatchKeyGuard(_AUTOCAST):
            return operator(value, shapes, *(tensor.to(wide) for tensor in others))

    full = f"ms_detr::{name}"
    torch.library.register_autograd(full, differentiate, setup_context=_save, lib=_library)
    torch.library.register_autograd(f"{full}_backward", refuse, lib=_library)
    for device in AUTOCAST_DEVICES:
        _library.impl(name, autocast, f"Autocast{device.upper()}")


def _define(schema: str, implementation: Callable[..., Any], fake: Callable[..., Any]) -> None:
    name = _library.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    _library.impl(name, implementation, "CompositeExplicitAutograd")
    torch.library.register_fake(f"ms_detr::{name}", fake, lib=_library)


def _fake_forward(value: Tensor, _shapes: Sequence[int], first: Tensor, *_others: Tensor) -> Tensor:
    return value.new_empty((value.shape[0], first.shape[1], value.shape[2] * value.shape[3]))


def _fake_backward(
    _grad: Tensor, value: Tensor, _shapes: Sequence[int], *positions: Tensor
) -> tuple[Tensor, ...]:
    # Kernels return contiguous gradients whatever the strides of the inputs.
    return tuple(tensor.new_empty(tensor.shape) for tensor in (value, *positions))


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    value, ctx.shapes, *positions = inputs
    ctx.save_for_backward(value, *positions)  # the inputs themselves: no copy
