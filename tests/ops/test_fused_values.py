"""The fused operator, compiled and put together, against loops and against the plain operator."""

from __future__ import annotations

import math

import pytest
import torch

from ms_detr.ops import ms_deform_attn

TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 3e-5,
    torch.float16: 2e-3,
    torch.bfloat16: 1.6e-2,
}
# 3 * 3 = 9 and 5 * 4 = 20 samples fill no vector of 16, 4 * 4 = 16 fill one exactly, 2 * 16 two.
CASES = {
    "smallest": {"queries": 5, "heads": 1, "channels": 1, "points": 1, "shapes": ((1, 1),)},
    "odd": {
        "queries": 4,
        "heads": 3,
        "channels": 5,
        "points": 3,
        "shapes": ((4, 7), (1, 1), (2, 3)),
    },
    "usual": {
        "queries": 3,
        "heads": 2,
        "channels": 32,
        "points": 4,
        "shapes": ((8, 6), (4, 3), (2, 2), (1, 1)),
    },
    "five_levels": {
        "queries": 2,
        "heads": 2,
        "channels": 16,
        "points": 4,
        "shapes": ((8, 6), (4, 3), (2, 2), (1, 2), (1, 1)),
    },
    "many_points": {
        "queries": 2,
        "heads": 1,
        "channels": 67,
        "points": 16,
        "shapes": ((3, 3), (2, 2)),
    },
}


def tensors(x):
    return x.value, x.reference, x.offsets, x.logits


def call(function, x):
    return function(x.value, x.flat, x.reference, x.offsets, x.logits)


def call_backward(function, x):
    return function(x.grad, x.value, x.flat, x.reference, x.offsets, x.logits)


def near(actual, expected, dtype, factor=1):
    tolerance = factor * TOLERANCE[dtype]
    torch.testing.assert_close(actual.double(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("batch", [0, 1, 3])
@pytest.mark.parametrize("r", [2, 4])
@pytest.mark.parametrize("case", CASES)
def test_output_and_gradients_are_those_of_loops(
    case, r, batch, dtype, make_fused_inputs, fused_loops, fused_forward_backward
):
    forward, backward = fused_forward_backward
    x = make_fused_inputs(r, batch=batch, dtype=dtype, **CASES[case])
    leaves = [t.double().requires_grad_() for t in tensors(x)]
    expected = fused_loops(leaves[0], x.shapes, *leaves[1:])
    actual = call(forward, x)
    assert actual.dtype == dtype
    near(actual, expected.detach(), dtype)

    gradients = call_backward(backward, x)
    if batch == 0:
        wanted = [torch.zeros_like(t) for t in leaves]
    else:
        wanted = torch.autograd.grad(expected, leaves, x.grad.double())
    for actual, expected, like in zip(gradients, wanted, tensors(x)):
        assert actual.dtype == like.dtype and actual.is_contiguous()
        near(actual, expected, dtype, factor=3)


def test_by_hand(fused_forward_backward):
    forward, _ = fused_forward_backward
    value = torch.tensor([1.0, 2.0, 3.0, 4.0, 10.0]).view(1, 5, 1, 1)  # 2x2 map, then one pixel

    def at(reference, offset, logits):
        return forward(
            value,
            [2, 2, 1, 1],
            torch.tensor(reference).expand(1, 1, 2, -1),
            torch.tensor(offset).expand(1, 1, 1, 2, 1, 2),
            torch.tensor(logits).view(1, 1, 1, 2),
        ).item()

    first, second = [0.0, -math.inf], [-math.inf, 0.0]  # all weight on one level
    assert at([0.25, 0.25], [0.0, 0.0], first) == 1.0
    assert at([0.25, 0.25], [1.0, 0.0], first) == 2.0  # an offset of 1 is a pixel to the right
    assert at([0.25, 0.25], [0.0, 1.0], first) == 3.0
    assert at([0.5, 0.5], [0.0, 0.0], second) == 10.0
    assert at([0.5, 0.5], [0.5, 0.0], second) == 5.0  # half a pixel of the smaller map
    assert at([0.5, 0.5], [0.0, 0.0], [0.0, 0.0]) == 6.25  # the mean of 2.5 and 10
    assert at([0.5, 0.5], [0.0, 0.0], [0.0, math.log(3.0)]) == pytest.approx(8.125)
    # Around a box, with one point, an offset of 1 leads to its border.
    assert at([0.5, 0.25, 0.5, 0.0], [-1.0, 7.0], first) == 1.0
    assert at([0.5, 0.5, 0.5, 0.5], [1.0, -1.0], first) == 2.0


@pytest.mark.parametrize("r", [2, 4])
def test_equals_the_plain_operator_on_softmax_and_locations(
    r, make_fused_inputs, fused_forward_backward
):
    forward, _ = fused_forward_backward
    x = make_fused_inputs(r, queries=50, heads=4, channels=32, points=4, shapes=((16, 20), (8, 10)))
    center = x.reference[:, :, None, :, None, :2]
    if r == 2:
        locations = center + x.offsets / torch.tensor([[[20.0, 16.0]], [[10.0, 8.0]]])
    else:
        locations = center + x.offsets * (x.reference[:, :, None, :, None, 2:] * (0.5 / 4))
    weights = x.logits.softmax(-1).view(x.offsets.shape[:5])
    plain = ms_deform_attn(x.value, x.shapes, locations, weights)
    torch.testing.assert_close(call(forward, x), plain, rtol=1e-5, atol=1e-5)


def test_no_queries(make_fused_inputs, fused_forward_backward):
    forward, backward = fused_forward_backward
    x = make_fused_inputs(queries=0)
    assert call(forward, x).shape == (2, 0, 10)
    gradients = call_backward(backward, x)
    assert [g.shape for g in gradients] == [t.shape for t in tensors(x)]
    assert not gradients[0].any()


def test_inputs_need_not_be_contiguous(make_fused_inputs, fused_forward_backward):
    forward, backward = fused_forward_backward
    x = make_fused_inputs(4, batch=3, queries=4)
    x.reference = x.reference[:, :1].expand(-1, 4, -1, -1)
    x.grad = x.grad[:, :, :1].expand_as(x.grad)
    contiguous = [call(forward, x), *call_backward(backward, x)]
    x.value = x.value.permute(3, 0, 2, 1).contiguous().permute(1, 3, 2, 0)
    x.offsets = x.offsets.flip(-1).transpose(0, 4).contiguous().transpose(0, 4).flip(-1)
    x.logits = torch.stack([x.logits, x.logits], -1)[..., 1]
    assert not any(t.is_contiguous() for t in (*tensors(x), x.grad))
    for actual, expected in zip([call(forward, x), *call_backward(backward, x)], contiguous):
        assert actual.is_contiguous()
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("logit", [1e4, -1e4, 3e38])
def test_large_logits_do_not_overflow(logit, make_fused_inputs, fused_forward_backward):
    forward, backward = fused_forward_backward
    x = make_fused_inputs()
    expected = call(forward, x)
    # Softmax does not change with a constant; at 1e4 float32 keeps 3 digits of the differences.
    x.logits = x.logits * 0 + logit
    even = call(forward, x)
    x.logits = torch.zeros_like(x.logits)
    torch.testing.assert_close(even, call(forward, x))
    assert not torch.equal(even, expected)
    x.logits[0, 0, 0, 1] = logit  # one point has all weight, or none
    for result in (call(forward, x), *call_backward(backward, x)):
        assert torch.isfinite(result).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["reference", "offsets", "logits"])
def test_non_finite_input_shows_where_it_is_and_only_there(
    name, bad, make_fused_inputs, fused_forward_backward
):
    forward, backward = fused_forward_backward
    x = make_fused_inputs()
    clean = call(forward, x)
    spoilt = {"reference": (1, 2, 1, 0), "offsets": (1, 2, 0, 1, 0, 0), "logits": (1, 2, 0, 1)}
    getattr(x, name)[spoilt[name]] = bad
    output = call(forward, x)
    gradients = dict(zip(("value", "reference", "offsets", "logits"), call_backward(backward, x)))
    if name == "logits" and bad == -math.inf:  # a point that is switched off: nothing is wrong
        assert torch.isfinite(output).all()
        assert all(torch.isfinite(g).all() for g in gradients.values())
        return
    expected = clean.clone()
    expected[1, 2, : None if name == "reference" else 5] = math.nan
    torch.testing.assert_close(output, expected, equal_nan=True)
    assert not torch.isfinite(gradients[name][spoilt[name]])
    for key in ("reference", "offsets", "logits"):
        others = gradients[key].clone()
        others[1, 2] = 0
        assert torch.isfinite(others).all(), key


@pytest.mark.parametrize("far", [1e9, -1e30, 1e38])
def test_far_offsets_read_zeros(far, make_fused_inputs, fused_forward_backward):
    forward, backward = fused_forward_backward
    x = make_fused_inputs(4)
    x.offsets[0, 0, 0, 0, 0, 0] = far
    output = call(forward, x)
    assert torch.isfinite(output).all()
    x.offsets[0, 0, 0, 0, 0, 0] = math.copysign(100.0, far)
    torch.testing.assert_close(output, call(forward, x))
    x.offsets[0, 0, 0, 0, 0, 0] = far
    _, of_reference, of_offsets, of_logits = call_backward(backward, x)
    assert not of_offsets[0, 0, 0, 0, 0].any()
    assert torch.isfinite(of_logits).all() and torch.isfinite(of_reference).all()
