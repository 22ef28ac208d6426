"""The CUDA kernels without a GPU: their source, compiled for the processor and run by an emulator
of lanes, warps and blocks, against the CPU operators and against loops."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from emulated import Emulator, build, compiler, load

OPS = torch.ops.ms_detr
TOLERANCE = {
    torch.float64: 1e-11,
    torch.float32: 5e-5,
    torch.float16: 2e-3,
    torch.bfloat16: 1.6e-2,
}
KINDS = list(TOLERANCE)
SHAPES = ((7, 5), (1, 6), (3, 2), (2, 2), (1, 1))
# The forms of the fused operator, for reference points and for boxes, and the plain operator.
OPERATORS = {"plain": 0, "points": 2, "boxes": 4}


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    """Path of the compiled emulator, for Hopper (atomic additions of four floats) or Ampere."""
    if compiler() is None:
        pytest.skip("needs a C++ compiler, to build the emulator")
    built = {}

    def get(arch, *flags):
        key = (arch, *flags)
        if key not in built:
            built[key] = build(tmp_path_factory.mktemp("emulator"), arch, *flags)
        return built[key]

    return get


@pytest.fixture
def emulator(library):
    return Emulator(load(library(900), 900))


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
    inputs = x.value, x.flat, *x.others
    forward, backward = getattr(OPS, x.name), getattr(OPS, f"{x.name}_backward")
    return forward(*inputs), *backward(x.grad, *inputs)


def assert_near(actual, expected, dtype, factor=1, **options):
    tolerance = factor * TOLERANCE[dtype]
    for a, e in zip(actual, expected, strict=True):
        assert a.dtype == e.dtype
        torch.testing.assert_close(a, e, rtol=tolerance, atol=tolerance, **options)


# 1, 5, 33: one channel per lane. 8, 32: 16 bytes per lane. 160, 33: a head wider than a warp.
@pytest.mark.parametrize("deterministic", [False, True], ids=["atomic", "deterministic"])
@pytest.mark.parametrize("channels", [1, 5, 8, 32, 33, 160])
@pytest.mark.parametrize("dtype", KINDS, ids=str)
@pytest.mark.parametrize("operator", OPERATORS)
def test_all_kernels(operator, dtype, channels, deterministic, emulator):
    x = make(operator, dtype, channels=channels)
    emulator.deterministic = deterministic
    assert_near(emulated(emulator, x), on_cpu(x), dtype, factor=4)


@pytest.mark.slow
@pytest.mark.parametrize("dtype, channels", [(torch.float32, 32), (torch.float16, 8)])
def test_gpus_before_hopper_add_one_number_at_a_time(dtype, channels, library):
    x = make(dtype=dtype, channels=channels)
    assert_near(emulated(Emulator(load(library(800), 800)), x), on_cpu(x), dtype)


# Chunks of 8 samples: less than one, one, two, and parts of one.
@pytest.mark.parametrize(
    "levels, points", [(1, 1), (1, 8), (4, 4), (5, 4), (2, 5), (1, 17), (32, 1)]
)
@pytest.mark.parametrize("operator", OPERATORS)
def test_levels_and_points(operator, levels, points, emulator):
    x = make(operator, levels=levels, points=points)
    for emulator.deterministic in (False, True):
        assert_near(emulated(emulator, x), on_cpu(x), torch.float32, factor=2)


@pytest.mark.parametrize("most_blocks", [1, 2, 100])
@pytest.mark.parametrize("batch, queries, heads", [(1, 1, 1), (5, 1, 2), (1, 40, 3), (3, 17, 1)])
def test_grids_smaller_and_larger_than_the_work(batch, queries, heads, most_blocks, emulator):
    x = make(batch=batch, queries=queries, heads=heads)
    emulator.most_blocks = most_blocks
    for emulator.deterministic in (False, True):
        assert_near(emulated(emulator, x), on_cpu(x), torch.float32)


def test_plain_operator_is_that_of_loops(emulator, make_inputs, loops):
    x = make_inputs(dtype=torch.float64)
    leaves = [t.requires_grad_() for t in (x.value, x.locations, x.weights)]
    expected = loops(leaves[0], x.shapes, *leaves[1:])
    wanted = [expected, *torch.autograd.grad(expected, leaves, x.grad)]
    tensors = [t.detach() for t in leaves]
    actual = emulator.forward(tensors[0], x.flat, *tensors[1:])
    gradients = emulator.backward(x.grad, tensors[0], x.flat, *tensors[1:])
    assert_near([actual, *gradients], [t.detach() for t in wanted], torch.float64)


@pytest.mark.parametrize("r", [2, 4])
def test_fused_operator_is_that_of_loops(r, emulator, make_fused_inputs, fused_loops):
    x = make_fused_inputs(r, dtype=torch.float64)
    leaves = [t.requires_grad_() for t in (x.value, x.reference, x.offsets, x.logits)]
    expected = fused_loops(leaves[0], x.shapes, *leaves[1:])
    wanted = [expected, *torch.autograd.grad(expected, leaves, x.grad)]
    tensors = [t.detach() for t in leaves]
    actual = emulator.forward(tensors[0], x.flat, *tensors[1:])
    gradients = emulator.backward(x.grad, tensors[0], x.flat, *tensors[1:])
    assert_near([actual, *gradients], [t.detach() for t in wanted], torch.float64)


@pytest.mark.parametrize("name", ["value", "grad"])
def test_unaligned_tensors(name, emulator):
    x = make(channels=32)
    expected = emulated(emulator, x)
    tensor = getattr(x, name)
    moved = torch.cat([tensor.new_zeros(1), tensor.flatten()])[1:].view_as(tensor)
    assert moved.data_ptr() % 16 == 4
    setattr(x, name, moved)
    for emulator.deterministic in (False, True):
        assert_near(emulated(emulator, x), expected, torch.float32)


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


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e30, -1e9])
@pytest.mark.parametrize("operator", OPERATORS)
def test_wild_places_are_treated_as_on_the_cpu(operator, bad, emulator):
    x = make(operator, levels=4, points=4)
    x.others[-2][1, 2, 0].view(16, 2)[[0, 9, 15], [0, 1, 0]] = bad
    expected = on_cpu(x)
    assert expected[0].isnan().sum() == (0 if math.isfinite(bad) else 8)
    for emulator.deterministic in (False, True):
        assert_near(emulated(emulator, x), expected, torch.float32, equal_nan=True)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("operator", OPERATORS)
def test_wild_weights_and_logits_are_treated_as_on_the_cpu(operator, bad, emulator):
    x = make(operator, levels=4, points=4)
    x.others[-1][1, 2, 0].view(16)[[0, 9]] = bad
    x.others[-2][1, 2, 0].view(16, 2)[9] = 50.0  # one of them reads nothing
    output, of_value, *others = on_cpu(x)
    for emulator.deterministic in (False, True):
        actual = emulated(emulator, x)
        assert_near([actual[0]], [output], torch.float32, equal_nan=True)
        assert_near(actual[2:], others, torch.float32, equal_nan=True)
        assert torch.equal(actual[1].isfinite(), of_value.isfinite())


def test_infinite_token_is_not_read_through_a_corner_outside(emulator):
    value = torch.tensor([math.inf, 1.0]).view(1, 2, 1, 1)
    at = [(-0.1, 0.5), (1.1, 0.5), (9.0, 0.5)]  # left of the first pixel, right of the second, far
    locations = torch.tensor(at).view(1, 3, 1, 1, 1, 2)
    output = emulator.forward(value, [1, 2], locations, torch.ones(1, 3, 1, 1, 1)).flatten()
    assert output[0] == math.inf and output[1].isfinite() and output[2] == 0


def test_half_precision_sums_are_float32(emulator):
    """2049 gradients of 1 in one token: float16 cannot count beyond 2048."""
    queries = 2100
    arguments = (
        torch.ones(1, queries, 8).half(),
        torch.ones(1, 1, 1, 8).half(),
        [1, 1],
        torch.full((1, queries, 1, 1, 1, 2), 0.5),
        torch.ones(1, queries, 1, 1, 1),
    )
    for emulator.deterministic in (False, True):
        assert (emulator.backward(*arguments)[0] == queries).all()


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


@pytest.mark.parametrize("batch, queries", [(0, 4), (3, 0)])
@pytest.mark.parametrize("dtype", KINDS, ids=str)
@pytest.mark.parametrize("operator", OPERATORS)
def test_zero_sizes(operator, dtype, batch, queries, emulator):
    x = make(operator, dtype, batch=batch, queries=queries)
    for emulator.deterministic in (False, True):
        assert_near(emulated(emulator, x), on_cpu(x), dtype)


@pytest.mark.parametrize("operator", OPERATORS)
def test_inputs_that_are_not_contiguous(operator, emulator):
    x = make(operator, batch=3)
    expected = on_cpu(x)
    x.value, x.grad, *x.others = (
        t.transpose(0, -1).contiguous().transpose(0, -1) for t in (x.value, x.grad, *x.others)
    )
    assert not any(t.is_contiguous() for t in (x.value, x.grad, *x.others))
    for emulator.deterministic in (False, True):
        actual = emulated(emulator, x)
        assert_near(actual, expected, torch.float32)
        assert all(t.is_contiguous() for t in actual)


def test_more_levels_than_the_kernels_take(emulator):
    x = make(levels=33, points=1)
    with pytest.raises(ValueError, match="at most 32 levels, got 33"):
        emulated(emulator, x)


SANITIZED = """
import sys
sys.path.insert(0, sys.argv[1])
from emulated import Emulator, load
import test_cuda_emulated as tests
operators = load(sys.argv[2], 900)
for operator in tests.OPERATORS:
    for dtype, channels in zip(tests.KINDS, (8, 32, 5, 64)):
        x = tests.make(operator, dtype, channels=channels, levels=4, points=4)
        if sys.argv[3] == "wrong":
            x.flat[0] += 1  # a level that has more rows than there are tokens
        for deterministic in (False, True):
            tests.emulated(Emulator(operators, deterministic=deterministic), x)
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
