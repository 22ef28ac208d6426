"""Outputs and gradients of each CPU implementation against loops, and against cases by hand."""

from __future__ import annotations

import math

import pytest
import torch

TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 3e-5,
    torch.float16: 2e-3,
    torch.bfloat16: 1.6e-2,
}
CASES = {
    "smallest": {"queries": 1, "heads": 1, "channels": 1, "points": 1, "shapes": ((1, 1),)},
    "odd_width": {
        "queries": 4,
        "heads": 3,
        "channels": 5,
        "points": 2,
        "shapes": ((4, 7), (1, 1), (2, 3)),
    },
    "rows_columns": {
        "queries": 3,
        "heads": 2,
        "channels": 3,
        "points": 3,
        "shapes": ((1, 6), (5, 1)),
    },
    "usual": {
        "queries": 2,
        "heads": 2,
        "channels": 32,
        "points": 4,
        "shapes": ((8, 6), (4, 3), (2, 2), (1, 1)),
    },
    "wide": {"queries": 2, "heads": 1, "channels": 67, "points": 1, "shapes": ((3, 3),)},
}


def assert_near(actual, expected, dtype):
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(actual.double(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("batch", [0, 1, 3])
@pytest.mark.parametrize("case", CASES)
def test_output_and_gradients_are_those_of_loops(
    case, batch, dtype, make_inputs, loops, forward_backward
):
    forward, backward = forward_backward
    x = make_inputs(batch=batch, dtype=dtype, **CASES[case])
    leaves = [t.double().requires_grad_() for t in (x.value, x.locations, x.weights)]
    expected = loops(leaves[0], x.shapes, leaves[1], leaves[2])
    actual = forward(x.value, x.flat, x.locations, x.weights)
    assert actual.dtype == dtype
    assert_near(actual, expected.detach(), dtype)

    gradients = backward(x.grad, x.value, x.flat, x.locations, x.weights)
    if batch == 0:
        wanted = [torch.zeros_like(t) for t in leaves]
    else:
        wanted = torch.autograd.grad(expected, leaves, x.grad.double())
    for actual, expected, like in zip(gradients, wanted, (x.value, x.locations, x.weights)):
        assert actual.dtype == like.dtype
        assert_near(actual, expected, dtype)


def test_pixel_centres_borders_and_means(forward_backward):
    forward, _ = forward_backward
    value = torch.tensor([1.0, 2.0, 3.0, 4.0, 10.0]).view(1, 5, 1, 1)  # 2x2 map, then one pixel

    def at(x, y, weights=(1.0, 0.0)):
        locations = torch.tensor([x, y]).expand(1, 1, 1, 2, 1, 2)
        return forward(
            value, [2, 2, 1, 1], locations, torch.tensor(weights).view(1, 1, 1, 2, 1)
        ).item()

    assert at(0.25, 0.25) == 1.0  # centre of the first pixel
    assert at(0.75, 0.25) == 2.0  # x runs along the width
    assert at(0.25, 0.75) == 3.0
    assert at(0.5, 0.5) == 2.5  # between all four
    assert at(0.0, 0.0) == 0.25  # on the outer corner: three of four corners are zeros
    assert at(1.0, 0.25) == 1.0  # on the border: half of pixel 2
    assert at(-0.25, 0.25) == 0.0  # one pixel outside
    assert at(0.5, 0.5, (0.0, 2.0)) == 20.0  # weights are not normalised
    assert at(0.5, 0.5, (2.0, 1.0)) == 15.0


def test_no_queries(make_inputs, forward_backward):
    forward, backward = forward_backward
    x = make_inputs(queries=0)
    assert forward(x.value, x.flat, x.locations, x.weights).shape == (2, 0, 10)
    gradients = backward(x.grad, x.value, x.flat, x.locations, x.weights)
    assert [g.shape for g in gradients] == [x.value.shape, x.locations.shape, x.weights.shape]
    assert not gradients[0].any()


def test_inputs_need_not_be_contiguous(make_inputs, forward_backward):
    forward, backward = forward_backward
    x = make_inputs(batch=3, queries=4)
    value = x.value.permute(3, 0, 2, 1).contiguous().permute(1, 3, 2, 0)
    locations = x.locations.flip(-1).transpose(0, 4).contiguous().transpose(0, 4).flip(-1)
    weights = torch.stack([x.weights, x.weights], -1)[..., 1]
    grad = x.grad[:, :, :1].expand_as(x.grad)
    assert not any(t.is_contiguous() for t in (value, locations, weights, grad))
    torch.testing.assert_close(
        forward(value, x.flat, locations, weights),
        forward(x.value, x.flat, x.locations, x.weights),
    )
    actual = backward(grad, value, x.flat, locations, weights)
    expected = backward(grad.contiguous(), x.value, x.flat, x.locations, x.weights)
    for a, e in zip(actual, expected):
        assert a.is_contiguous()
        torch.testing.assert_close(a, e)


@pytest.mark.parametrize("far", [1e3, -1e3, 1e9, 1e30, -1e30, 3e38])
def test_far_points_read_zeros(far, make_inputs, forward_backward):
    forward, backward = forward_backward
    x = make_inputs()
    x.locations[0, 0, 0, 0, 0, 0] = far
    near = x.weights.clone()
    near[0, 0, 0, 0, 0] = 0
    torch.testing.assert_close(
        forward(x.value, x.flat, x.locations, x.weights),
        forward(x.value, x.flat, x.locations.clamp(-2, 2), near),
    )
    _, of_locations, of_weights = backward(x.grad, x.value, x.flat, x.locations, x.weights)
    assert not of_locations[0, 0, 0, 0, 0].any()
    assert of_weights[0, 0, 0, 0, 0] == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("axis", [0, 1])
def test_non_finite_location_shows_where_it_is_and_only_there(
    bad, axis, make_inputs, forward_backward
):
    forward, backward = forward_backward
    x = make_inputs()
    clean = forward(x.value, x.flat, x.locations, x.weights)
    x.locations[1, 2, 0, 1, 0, axis] = bad
    output = forward(x.value, x.flat, x.locations, x.weights)
    expected = clean.clone()
    expected[1, 2, :5] = math.nan  # channels of that query's first head
    torch.testing.assert_close(output, expected, equal_nan=True)

    gradients = backward(x.grad, x.value, x.flat, x.locations, x.weights)
    assert torch.isfinite(gradients[0]).all()
    wanted = torch.zeros_like(x.weights, dtype=torch.bool)
    wanted[1, 2, 0, 1, 0] = True
    assert torch.equal(gradients[1].isnan().all(-1), wanted)
    assert torch.equal(gradients[2].isnan(), wanted)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_non_finite_weight_shows_even_where_the_point_is_outside(
    bad, make_inputs, forward_backward
):
    forward, _ = forward_backward
    x = make_inputs()
    x.weights[0, 1, 1, 0, 1] = bad
    x.locations[0, 1, 1, 0, 1] = 5.0
    output = forward(x.value, x.flat, x.locations, x.weights)
    assert output[0, 1, 5:].isnan().all()
    assert torch.isfinite(output).sum() == output.numel() - 5


def test_half_precision_sums_are_float32(forward_backward):
    """2049 gradients of 1 in one token: float16 cannot count beyond 2048."""
    _, backward = forward_backward
    queries = 4000
    gradients = backward(
        torch.ones(1, queries, 1).half(),
        torch.ones(1, 1, 1, 1).half(),
        [1, 1],
        torch.full((1, queries, 1, 1, 1, 2), 0.5),
        torch.ones(1, queries, 1, 1, 1),
    )
    assert gradients[0].item() == queries
