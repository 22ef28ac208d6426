"""The CUDA kernels without a GPU: their source, compiled for the processor and run by an emulator
of lanes, warps and blocks, against the CPU operators and against loops."""

from __future__ import annotations

import math

import pytest
import torch
from emulated import OPERATORS, TOLERANCE, Emulator, assert_near, emulated, load, make, on_cpu


# 1, 5, 33: one channel per lane. 8, 32: 16 bytes per lane. 160, 33: a head wider than a warp.
@pytest.mark.parametrize("deterministic", [False, True], ids=["atomic", "deterministic"])
@pytest.mark.parametrize("channels", [1, 5, 8, 32, 33, 160])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
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


@pytest.mark.parametrize("batch, queries", [(0, 4), (3, 0)])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
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
