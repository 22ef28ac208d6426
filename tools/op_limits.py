"""How fast the memory of this machine can be read, for tools/benchmark_op.py.

op_limits.c is compiled for this machine by the C compiler (``CC``, or cc) when it is first asked
for. Threads are Python's: ctypes lets go of the interpreter during a call.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import torch
from op_arms import Problem
from torch import Tensor

_SOURCE = Path(__file__).with_suffix(".c")


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "op_limits.so"
        compiler = os.environ.get("CC", "cc")
        flags = ["-O3", "-march=native", "-shared", "-fPIC"]
        subprocess.run([compiler, *flags, str(_SOURCE), "-o", str(target)], check=True)
        library = ctypes.CDLL(str(target))
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    library.gather.argtypes = [pointer, pointer, pointer, number, number, pointer]
    library.read_all.argtypes = [pointer, number, number]
    library.read_all.restype = ctypes.c_float
    return library


def corner_tables(p: Problem) -> tuple[Tensor, Tensor]:
    """Where the corners of all points start in the value (int32, in floats), and their weights;
    (cells, rows) of cells in the order image, query, head."""
    images, tokens, heads, channels = p.value.shape
    image = torch.arange(images).view(-1, 1, 1, 1)
    head = torch.arange(heads).view(-1, 1)
    places, shares, first = [], [], 0
    for level, (height, width) in enumerate(p.shapes):
        x = p.locations[:, :, :, level, :, 0] * width - 0.5
        y = p.locations[:, :, :, level, :, 1] * height - 0.5
        for dx in (0, 1):
            for dy in (0, 1):
                column, row = x.floor() + dx, y.floor() + dy
                share = (1 - (x - column).abs()) * (1 - (y - row).abs())
                inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
                token = row.clamp(0, height - 1) * width + column.clamp(0, width - 1) + first
                start = ((image * tokens + token.long()) * heads + head) * channels
                places.append(start.int())
                shares.append(p.weights[:, :, :, level] * share * inside)
        first += height * width
    return tuple(torch.stack(t, 3).flatten(3).flatten(0, 2).contiguous() for t in (places, shares))


def gatherer(p: Problem, threads: int) -> Callable[[], Tensor]:
    """A loop that adds up the rows that ``p`` reads, with addresses and weights made before."""
    places, shares = corner_tables(p)
    cells, rows = places.shape
    value, shape, library = p.value.contiguous(), p.grad.shape, _library()
    pool, step = ThreadPoolExecutor(threads), -(-cells // threads)

    def part(first: int, output: Tensor) -> None:
        count = min(step, cells - first)
        library.gather(
            value.data_ptr(),
            places[first:].data_ptr(),
            shares[first:].data_ptr(),
            count,
            rows,
            output.view(cells, -1)[first:].data_ptr(),
        )

    def run() -> Tensor:
        output = value.new_empty(shape)
        list(pool.map(lambda first: part(first, output), range(0, cells, step)))
        return output

    return run


def cache_reader(threads: int, kilobytes: int = 512, times: int = 4000) -> Callable[[], float]:
    """A loop over a buffer per thread that fits into the second-level cache; see
    :func:`cache_bytes`."""
    library, pool = _library(), ThreadPoolExecutor(threads)
    buffers = [torch.ones(kilobytes * 256) for _ in range(threads)]

    def run() -> float:
        return sum(pool.map(lambda b: library.read_all(b.data_ptr(), b.numel(), times), buffers))

    return run


def cache_bytes(threads: int, kilobytes: int = 512, times: int = 4000) -> int:
    """Bytes that one run of :func:`cache_reader` reads."""
    return threads * kilobytes * 1024 * times


def row_bytes(p: Problem) -> int:
    """Bytes of value that are read: four rows per sampled point."""
    return 4 * p.weights.numel() * p.value.shape[-1] * p.value.element_size()
