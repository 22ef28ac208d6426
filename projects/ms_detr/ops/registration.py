"""The operators ``ms_detr::*``: this file is the one place with their names and arguments.

What torch must know of them beside that is in library.py; kernels are in csrc/.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ms_detr.ops import extension, reference, unfused
from ms_detr.ops.library import define


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


define("ms_deform_attn", ("locations", "weights"), _pytorch_forward, _pytorch_backward)
define("fused_deform_attn", ("reference", "offsets", "logits"), unfused.forward, unfused.backward)
