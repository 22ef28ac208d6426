"""The CUDA kernels on the emulator: what depends on the order of lanes and blocks, and which memory
they touch."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from emulated import OPERATORS, compiler, emulated, make


def runs(emulator, x):
    """The same call with other orders of lanes, warps and blocks, and other numbers of blocks."""
    for emulator.seed in range(6):
        emulator.most_blocks = 1 + emulator.seed
        yield emulated(emulator, x)


@pytest.mark.parametrize("operator", OPERATORS)
def test_order_of_lanes_and_blocks_shows_in_the_last_bits_of_atomic_sums_alone(operator, emulator):
    x = make(operator, queries=40, channels=12)
    first, *others = runs(emulator, x)
    for run in others:
        assert all(torch.equal(run[i], first[i]) for i in range(len(first)) if i != 1)
        torch.testing.assert_close(run[1], first[1], rtol=1e-5, atol=1e-5)
    assert not all(torch.equal(run[1], first[1]) for run in others)  # orders did differ


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("operator", OPERATORS)
def test_deterministic_gradients_have_the_same_bits_in_any_order(operator, dtype, emulator):
    x = make(operator, dtype, queries=40, channels=12)
    emulator.deterministic = True
    first, *others = runs(emulator, x)
    for run in others:
        assert all(torch.equal(a, b) for a, b in zip(run, first, strict=True))


def test_offsets_beyond_32_bits(emulator):
    """More than 2^31 numbers in one image's tokens. Nearly all of them are zeros that are never
    touched, and take no memory."""
    height, width, heads, channels = 4096, 2049, 8, 32
    bits = 15360  # of a 1 in half precision
    try:
        numbers = np.zeros((1, height * width, heads, channels), np.uint16)
    except MemoryError:
        pytest.skip("needs 4 GB of address space")
    assert numbers.size > 2**31
    numbers[0, -1, -1] = bits
    value = torch.from_numpy(numbers.view(np.float16))
    last = torch.tensor([(width - 0.5) / width, (height - 0.5) / height])
    locations, weights = last.expand(1, 1, heads, 1, 1, 2).clone(), torch.ones(1, 1, heads, 1, 1)
    output = emulator.forward(value, [height, width], locations, weights)
    torch.testing.assert_close(output[0, 0, -channels:].float(), torch.ones(channels), rtol=2e-3,
                               atol=0)  # fmt: skip
    assert not output[0, 0, :-channels].any()
    sums = torch.from_numpy(np.zeros(numbers.shape, np.float32))
    arguments = output, value, [height, width], locations, weights, sums
    emulator.run("add_value_gradient", *arguments)
    torch.testing.assert_close(sums[0, -1, -1], torch.ones(channels), rtol=4e-3, atol=0)


SANITIZED = """
import sys
sys.path.insert(0, sys.argv[1])
import emulated as tests
operators = tests.load(sys.argv[2], 900)
for operator in tests.OPERATORS:
    for dtype, channels in zip(tests.TOLERANCE, (8, 32, 5, 64)):
        x = tests.make(operator, dtype, channels=channels, levels=4, points=4)
        if sys.argv[3] == "wrong":
            x.flat[0] += 1  # a level that has more rows than there are tokens
        for deterministic in (False, True):
            tests.emulated(tests.Emulator(operators, deterministic=deterministic), x)
print("nothing found")
"""


@pytest.mark.slow
@pytest.mark.parametrize("sizes", ["right", "wrong"])
def test_memory_sanitizer_finds_nothing_unless_sizes_are_wrong(sizes, library, repository):
    """Every tensor is a block of memory of its own here: a number too far is a fault."""
    runtime = subprocess.run(
        [str(compiler()), "-print-file-name=libasan.so"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    if not os.path.isabs(runtime):
        pytest.skip("needs a compiler with the address sanitizer")
    path = library(900, "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    done = subprocess.run(
        [sys.executable, "-c", SANITIZED, os.path.dirname(__file__), str(path), sizes],
        env={
            **os.environ,
            "LD_PRELOAD": runtime,
            "ASAN_OPTIONS": "detect_leaks=0",
            "PYTHONPATH": str(repository / "projects"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if sizes == "right":
        assert done.stdout.strip() == "nothing found", done.stderr[-3000:]
    else:
        assert done.returncode != 0 and "AddressSanitizer" in done.stderr, done.stderr[-3000:]
