"""The algorithm of the first CUDA kernels, as an arm of tools/benchmark_op.py.

op_naive.cu is compiled when it is first asked for: by the nvcc on PATH (``NVCC`` names another
one), for the GPU of this machine (``MS_DETR_NAIVE_ARCH`` names another one, as nvcc's ``-arch``).
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

import torch
from op_arms import Problem
from torch import Tensor

_SOURCE = Path(__file__).with_suffix(".cu")


@lru_cache(maxsize=1)
def load() -> None:
    """Build it and make ``torch.ops.ms_detr_naive`` known.

    Raises:
        subprocess.CalledProcessError: it does not compile; nvcc says why.
    """
    root = Path(torch.__file__).parent
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "op_naive.so"
        command = [os.environ.get("NVCC", "nvcc"), "-O3", "-std=c++17", "-shared"]
        command += [f"-arch={os.environ.get('MS_DETR_NAIVE_ARCH', 'native')}"]
        command += ["--expt-relaxed-constexpr", "--compiler-options", "-fPIC"]
        command += [f"-D_GLIBCXX_USE_CXX11_ABI={int(torch._C._GLIBCXX_USE_CXX11_ABI)}"]
        command += ["-isystem", str(root / "include"), f"-L{root / 'lib'}"]
        command += ["-lc10", "-lc10_cuda", "-ltorch_cpu", "-ltorch_cuda"]
        subprocess.run([*command, str(_SOURCE), "-o", str(target)], check=True)
        torch.ops.load_library(str(target))


class Naive:
    """Forward and backward for the inputs of one problem, in float32 whatever the value is: the
    first kernels knew nothing of half precision, and their users cast."""

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
