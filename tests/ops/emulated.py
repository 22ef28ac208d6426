"""The CUDA kernels run on the processor: built by the C++ compiler, called like the operators.

What stands here in Python is what ``csrc/cuda/tensors.cuh`` does with tensors, the sort of the
deterministic path among it; kernels, their choice and their launch sizes are the very same source.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

FOLDER = Path(__file__).resolve().parent / "emulator"
KERNELS = Path(__file__).resolve().parents[2] / "csrc" / "cuda"
KINDS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)  # order of Kind in call.h


class Request(ctypes.Structure):
    """The same fields as in emulator.cpp."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("kind", "most_blocks", "reference_size")),
        ("seed", ctypes.c_uint64),
        ("sizes", ctypes.c_int64 * 7),
        ("shapes", ctypes.c_void_p),
        *((name, ctypes.c_void_p) for name in (
            "value", "reference", "places", "shares", "grad", "output", "grad_value",
            "grad_places", "grad_shares", "grad_reference", "keys", "order", "starts", "table",
        )),
    ]  # fmt: skip


def compiler() -> str | None:
    """The C++ compiler, or None."""
    return shutil.which(os.environ.get("CXX", "g++"))


def build(folder: Path, arch: int, *flags: str) -> Path:
    """Compile the kernels as a compiler for the GPU architecture ``arch`` (900: Hopper) would see
    them.

    Raises:
        subprocess.CalledProcessError: they do not compile; the compiler says why.
    """
    return _compile("emulator.cpp", folder / "emulator.so", f"-DEMULATED_ARCH={arch}", *flags)


def load_operators(folder: Path) -> None:
    """Compile kernels and their torch side; makes ``torch.ops.ms_detr_emulated`` known.

    Raises:
        subprocess.CalledProcessError: they do not compile; the compiler says why.
    """
    torch_folder = Path(torch.__file__).parent
    flags = ["-DEMULATED_ARCH=900", f"-L{torch_folder / 'lib'}", "-lc10", "-ltorch_cpu"]
    flags += [f"-D_GLIBCXX_USE_CXX11_ABI={int(torch._C._GLIBCXX_USE_CXX11_ABI)}"]
    torch.ops.load_library(str(_compile("operators.cpp", folder / "operators.so", *flags)))


def _compile(source: str, target: Path, *flags: str) -> Path:
    command = [str(compiler()), "-std=c++17", "-O1", "-g1", "-fPIC", "-shared", "-Wall", "-Wextra"]
    command += ["-Wno-unknown-pragmas", f"-I{KERNELS}"]
    command += [f"-isystem{Path(torch.__file__).parent / 'include'}", str(FOLDER / source)]
    subprocess.run([*command, *flags, "-o", str(target)], check=True)
    return target


@dataclass
class Emulator:
    """Both operators. Arguments after the sizes: (locations, weights) of the plain one, or
    (reference, offsets, logits) of the fused one.

    Attributes:
        path: of the library.
        seed: of the order of lanes, warps and blocks.
        most_blocks: a grid has no more; the kernels loop then.
        deterministic: how the gradient of the value is made.
    """

    path: Path
    seed: int = 0
    most_blocks: int = 3
    deterministic: bool = False

    def __post_init__(self) -> None:
        self._emulate = ctypes.CDLL(str(self.path)).emulate
        self._emulate.argtypes = [ctypes.c_char_p, ctypes.POINTER(Request)]
        self._emulate.restype = ctypes.c_char_p

    def forward(self, value: Tensor, sizes: Sequence[int], *others: Tensor) -> Tensor:
        """Output (B, N, H * c)."""
        batch, queries = others[0].shape[:2]
        output = torch.full((batch, queries, value.shape[2] * value.shape[3]), torch.nan)
        output = output.to(value.dtype)
        self._run("forward", value, sizes, others, output=output)
        return output

    def backward(
        self, grad: Tensor, value: Tensor, sizes: Sequence[int], *others: Tensor
    ) -> tuple[Tensor, ...]:
        """Gradients of value and others."""
        sums, results = self.backward_sums(grad, value, sizes, *others)
        of_value = self._collect(grad, value, sizes, others) if sums is None else sums
        return of_value.to(value.dtype), *results

    def backward_sums(
        self, grad: Tensor, value: Tensor, sizes: Sequence[int], *others: Tensor
    ) -> tuple[Tensor | None, list[Tensor]]:
        """Gradient of value as the atomic additions leave it, before it is rounded, and the
        gradients of others."""
        wide = others[0].dtype
        results = {
            "grad_places": torch.full_like(others[-2], torch.nan),
            "grad_shares": torch.full_like(others[-1], torch.nan),
        }
        if len(others) == 3:
            batch, queries, levels, size = others[0].shape
            by_head = (batch, queries, value.shape[2], levels, size)
            results["grad_reference"] = torch.full(by_head, torch.nan, dtype=wide)
        sums = None
        if not self.deterministic:
            # Not torch.zeros: memory that nobody touches is not taken then.
            sums = torch.from_numpy(np.zeros(value.shape, np.dtype(str(wide).split(".")[1])))
        self._run("backward", value, sizes, others, grad=grad, grad_value=sums, **results)
        if len(others) == 3:
            results["grad_reference"] = results["grad_reference"].sum(2)
        order = ("grad_reference", "grad_places", "grad_shares")
        return sums, [results[name] for name in order if name in results]

    def _collect(
        self, grad: Tensor, value: Tensor, sizes: Sequence[int], others: tuple[Tensor, ...]
    ) -> Tensor:
        of_value = torch.full_like(value, torch.nan)
        samples = others[-1][0].numel()
        patches = sum((h + 1) * (w + 1) for h, w in zip(sizes[0::2], sizes[1::2]))
        keys = torch.full((samples,), -1)
        table = torch.zeros(samples, 4, dtype=torch.float64)  # at most 32 bytes each
        all_keys = torch.arange(value.shape[2] * patches + 1)
        for image in range(len(value)):
            one = slice(image, image + 1)
            arguments = (value[one], sizes, tuple(t[one] for t in others))
            self._run("keys", *arguments, keys=keys, table=table)
            ordered, order = torch.sort(keys, stable=True)
            starts = torch.searchsorted(ordered, all_keys)
            result = of_value[one]
            self._run("collect", *arguments, grad=grad[one], order=order, starts=starts,
                      table=table, grad_value=result)  # fmt: skip
        return of_value

    def _run(
        self,
        what: str,
        value: Tensor,
        sizes: Sequence[int],
        others: tuple[Tensor, ...],
        **tensors: Tensor | None,
    ) -> None:
        tensors = {**tensors, "value": value, "places": others[-2], "shares": others[-1]}
        if len(others) == 3:
            tensors["reference"] = others[0]
        for name, tensor in tensors.items():
            if tensor is not None and not tensor.is_contiguous():
                raise ValueError(f"{name} must be contiguous here")
        shapes = (ctypes.c_int64 * len(sizes))(*sizes)
        batch, tokens, heads, channels = value.shape
        queries, levels, points = others[-2].shape[1], len(sizes) // 2, others[-2].shape[4]
        request = Request(
            kind=KINDS.index(value.dtype),
            most_blocks=self.most_blocks,
            reference_size=others[0].shape[-1] if len(others) == 3 else 0,
            seed=self.seed,
            sizes=(batch, tokens, heads, channels, queries, levels, points),
            shapes=ctypes.addressof(shapes),
        )
        for name, tensor in tensors.items():
            setattr(request, name, None if tensor is None else tensor.data_ptr())
        error = self._emulate(what.encode(), ctypes.byref(request))
        if error is not None:
            raise RuntimeError(error.decode())
