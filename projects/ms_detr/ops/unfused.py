"""``fused_deform_attn`` put together from softmax, sampling locations and ``ms_deform_attn``.

Used where no kernel does it in one: wherever nothing is compiled, and on devices that have a kernel
of ``ms_deform_attn`` alone. Arguments as in fused_deform_attn.py, with ``sizes`` = h0, w0, h1,
w1, ..
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ms_detr.ops.checks import check_fused_inputs, check_grad


def forward(
    value: Tensor, sizes: Sequence[int], reference: Tensor, offsets: Tensor, logits: Tensor
) -> Tensor:
    """Output (B, N, H * c) of the operator.

    Raises:
        ValueError: a shape, dtype or device does not fit.
    """
    check_fused_inputs(value, sizes, reference, offsets, logits)
    weights = logits.contiguous().softmax(-1).view(offsets.shape[:5])
    locations = sampling_locations(reference, offsets, _steps(sizes, reference, offsets))
    return torch.ops.ms_detr.ms_deform_attn(value, sizes, locations, weights)


def backward(
    grad: Tensor,
    value: Tensor,
    sizes: Sequence[int],
    reference: Tensor,
    offsets: Tensor,
    logits: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of value, reference, offsets and logits, given that of the output.

    Raises:
        ValueError: a shape, dtype or device does not fit.
    """
    check_fused_inputs(value, sizes, reference, offsets, logits)
    check_grad("fused_deform_attn", grad, value, reference.shape[1])
    steps = _steps(sizes, reference, offsets)
    weights = logits.contiguous().softmax(-1)
    of_value, of_locations, of_weights = torch.ops.ms_detr.ms_deform_attn_backward(
        grad,
        value,
        sizes,
        sampling_locations(reference, offsets, steps),
        weights.view(offsets.shape[:5]),
    )
    of_logits = torch.ops.aten._softmax_backward_data(
        of_weights.view(logits.shape), weights, -1, weights.dtype
    )
    of_reference = of_locations.sum((2, 4))
    if reference.shape[-1] == 4:
        # A step is half the size over Z, so the size gets the offset times that.
        of_size = (of_locations * offsets).sum((2, 4)) * (0.5 / offsets.shape[4])
        of_reference = torch.cat([of_reference, of_size], -1)
    return of_value, of_reference, of_locations.mul_(steps), of_logits


def sampling_locations(reference: Tensor, offsets: Tensor, steps: Tensor) -> Tensor:
    """(B, N, H, L, Z, 2): centres of the references, and offsets in units of ``steps`` from
    there."""
    return torch.addcmul(reference[:, :, None, :, None, :2], offsets, steps)


def _steps(sizes: Sequence[int], reference: Tensor, offsets: Tensor) -> Tensor:
    """Length of an offset of 1, as a fraction of the map, to broadcast against the offsets."""
    if reference.shape[-1] == 4:
        return (reference[..., 2:] * (0.5 / offsets.shape[4]))[:, :, None, :, None]
    steps = offsets.new_empty((len(sizes) // 2, 1, 2))
    # Written there, not copied from here: a copy would make the host wait for the device.
    for step, height, width in zip(steps, sizes[0::2], sizes[1::2]):
        step[:, 0].fill_(1 / width)
        step[:, 1].fill_(1 / height)
    return steps
