"""The algorithm of the first CUDA kernels, as an arm of tools/benchmark_op.py.

op_naive.cu is compiled for the GPU of this machine when it is first asked for; torch keeps the
result (``TORCH_EXTENSIONS_DIR``).
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch
from op_arms import Problem
from torch import Tensor


@lru_cache(maxsize=1)
def load() -> None:
    """Build it and make ``torch.ops.ms_detr_naive`` known. Needs nvcc, but no GPU where
    ``TORCH_CUDA_ARCH_LIST`` is set."""
    from torch.utils import cpp_extension  # looks for CUDA, and says so, when it is imported

    source = Path(__file__).with_suffix(".cu")
    cpp_extension.load("ms_detr_naive", [str(source)], is_python_module=False)


class Naive:
    """Forward and backward for the inputs of one problem, in float32 whatever the value is: the
    kernels knew nothing else, and their users cast."""

    def __init__(self, p: Problem) -> None:
        load()
        self.grad = p.grad.float()
        sizes = torch.tensor(p.shapes, device=p.value.device)
        areas = sizes.prod(1)
        starts = areas.cumsum(0) - areas
        self.inputs = (p.value.float(), sizes, starts, p.locations, p.weights)

    def forward(self) -> Tensor:
        """Output (B, N, H * c)."""
        return torch.ops.ms_detr_naive.forward(*self.inputs)

    def both(self) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """Output, and gradients of value, locations and weights."""
        output = self.forward()
        return output, torch.ops.ms_detr_naive.backward(self.grad, *self.inputs)
