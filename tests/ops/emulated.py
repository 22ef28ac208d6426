"""The CUDA operators on the processor: the source of ``csrc/cuda`` but for streams, built by the
C++ compiler, with an emulator of lanes, warps and blocks for the GPU. And inputs for them."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

SOURCE = Path(__file__).resolve().parent / "emulator" / "operators.cpp"
KERNELS = Path(__file__).resolve().parents[2] / "csrc" / "cuda"
TOLERANCE = {
    torch.float64: 1e-11,
    torch.float32: 5e-5,
    torch.float16: 2e-3,
    torch.bfloat16: 1.6e-2,
}
SHAPES = ((7, 5), (1, 6), (3, 2), (2, 2), (1, 1))
# The forms of the fused operator, for reference points and for boxes, and the plain operator.
OPERATORS = {"plain": 0, "points": 2, "boxes": 4}


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


def make(operator="plain", dtype=torch.float32, *, seed=0, **sizes):
    """Inputs of one operator; some points lie partly or wholly outside of their level."""
    size = {"batch": 2, "queries": 5, "heads": 3, "channels": 8, "levels": 3, "points": 3, **sizes}
    shapes = (SHAPES * 7)[: size["levels"]]
    generator = torch.Generator().manual_seed(seed)
    wide = torch.float64 if dtype == torch.float64 else torch.float32

    def random(*shape):
        return torch.randn(*shape, generator=generator)

    cells = size["batch"], size["queries"], size["heads"]
    samples = *cells, size["levels"], size["points"]
    tokens = sum(height * width for height, width in shapes)
    value = random(size["batch"], tokens, size["heads"], size["channels"]).to(dtype)
    grad = random(*cells[:2], size["heads"] * size["channels"]).to(dtype)
    r = OPERATORS[operator]
    if r == 0:
        others = 0.5 + 0.4 * random(*samples, 2), random(*samples)
    else:
        reference = 0.5 + 0.3 * random(*cells[:2], size["levels"], r)
        others = reference, 2 * random(*samples, 2), 2 * random(*cells, math.prod(samples[3:]))
    return SimpleNamespace(
        name="ms_deform_attn" if r == 0 else "fused_deform_attn",
        grad=grad,
        flat=[side for pair in shapes for side in pair],
        value=value,
        others=[t.to(wide) for t in others],
    )


def emulated(emulator, x):
    """Output and gradients."""
    inputs = x.value, x.flat, *x.others
    return emulator.forward(*inputs), *emulator.backward(x.grad, *inputs)


def on_cpu(x):
    """The same of the package's operators."""
    inputs, operators = (x.value, x.flat, *x.others), torch.ops.ms_detr
    forward, backward = getattr(operators, x.name), getattr(operators, f"{x.name}_backward")
    return forward(*inputs), *backward(x.grad, *inputs)


def assert_near(actual, expected, dtype, factor=1, **options):
    """Results in pairs: of one dtype, and close as that of the value allows."""
    tolerance = factor * TOLERANCE[dtype]
    for a, e in zip(actual, expected, strict=True):
        assert a.dtype == e.dtype
        torch.testing.assert_close(a, e, rtol=tolerance, atol=tolerance, **options)
