"""Multi-scale deformable attention in PyTorch operations, forward and backward, for any device.

Used where no compiled kernel exists. There are two forms: bags.py, measured on the CPU to be two to
four times faster than the other for any number of queries (docs/op.md), and grids.py for devices
that may lack ``embedding_bag``. Arguments as in ms_deform_attn.py, with
``sizes`` = h0, w0, h1, w1, ..
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

from torch import Tensor

from ms_detr.ops import bags, grids
from ms_detr.ops.checks import check_grad, check_inputs


def forward(value: Tensor, sizes: Sequence[int], locations: Tensor, weights: Tensor) -> Tensor:
    """Output (B, N, H * c) of the operator.

    Raises:
        ValueError: a shape, dtype or device does not fit.
    """
    check_inputs(value, sizes, locations, weights)
    return _form(value).forward(value, sizes, locations, weights)


def backward(
    grad: Tensor, value: Tensor, sizes: Sequence[int], locations: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of value, locations and weights, given that of the output.

    Raises:
        ValueError: a shape, dtype or device does not fit.
    """
    check_inputs(value, sizes, locations, weights)
    check_grad("ms_deform_attn", grad, value, locations.shape[1])
    return _form(value).backward(grad, value, sizes, locations, weights)


def _form(value: Tensor) -> ModuleType:
    return bags if value.device.type == "cpu" else grids
