"""The CUDA operators on the processor: the source of ``csrc/cuda`` but for streams, built by the
C++ compiler, with an emulator of lanes, warps and blocks for the GPU."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SOURCE = Path(__file__).resolve().parent / "emulator" / "operators.cpp"
KERNELS = Path(__file__).resolve().parents[2] / "csrc" / "cuda"


def compiler() -> str | None:
    """The C++ compiler, or None."""
    return shutil.which(os.environ.get("CXX", "g++"))


def build(folder: Path, arch: int, *flags: str) -> Path:
    """Compile kernels and their torch side, as a compiler for the GPU architecture ``arch`` (900:
    Hopper) would see them.

    Raises:
        subprocess.CalledProcessError: they do not compile; the compiler says why.
    """
    target, root = folder / "emulated.so", Path(torch.__file__).parent
    command = [str(compiler()), "-std=c++17", "-O1", "-g1", "-fPIC", "-shared", "-Wall", "-Wextra"]
    command += [
        "-Wno-unknown-pragmas",
        f"-DEMULATED_ARCH={arch}",
        f"-DEMULATED_LIBRARY={_name(arch)}",
    ]
    command += [f"-D_GLIBCXX_USE_CXX11_ABI={int(torch._C._GLIBCXX_USE_CXX11_ABI)}"]
    command += [f"-I{KERNELS}", f"-isystem{root / 'include'}", *flags, str(SOURCE)]
    command += [f"-L{root / 'lib'}", "-lc10", "-ltorch_cpu", "-o", str(target)]
    subprocess.run(command, check=True)
    return target


def load(library: Path, arch: int) -> Any:
    """The operators of a library that :func:`build` made for ``arch``."""
    torch.ops.load_library(str(library))
    return getattr(torch.ops, _name(arch))


def _name(arch: int) -> str:
    return f"ms_detr_emulated_{arch}"


@dataclass
class Emulator:
    """Both operators. Arguments after the sizes: (locations, weights) of the plain one, or
    (reference, offsets, logits) of the fused one.

    Attributes:
        operators: from :func:`load`.
        seed: of the order of lanes, warps and blocks.
        most_blocks: a grid has no more along each axis; the kernels loop then.
        deterministic: whether under ``torch.use_deterministic_algorithms``; memory that nobody
            wrote to is NaN then.
    """

    operators: Any
    seed: int = 0
    most_blocks: int = 3
    deterministic: bool = False

    def forward(self, value: Tensor, sizes: Sequence[int], *others: Tensor) -> Tensor:
        """Output (B, N, H * c)."""
        return self.run(_operator(others), value, sizes, *others)

    def backward(
        self, grad: Tensor, value: Tensor, sizes: Sequence[int], *others: Tensor
    ) -> tuple[Tensor, ...]:
        """Gradients of value and others."""
        return self.run(f"{_operator(others)}_backward", grad, value, sizes, *others)

    def run(self, operator: str, *arguments: Any) -> Any:
        """One call."""
        before = torch.are_deterministic_algorithms_enabled()
        self.operators.configure(self.seed, self.most_blocks)
        torch.use_deterministic_algorithms(self.deterministic)
        try:
            return getattr(self.operators, operator)(*arguments)
        finally:
            torch.use_deterministic_algorithms(before)


def _operator(others: tuple[Tensor, ...]) -> str:
    return "ms_deform_attn" if len(others) == 2 else "fused_deform_attn"
