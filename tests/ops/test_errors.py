"""Arguments that do not fit: the message names the argument and the shapes."""

from __future__ import annotations

import pytest
import torch

from ms_detr.ops import ms_deform_attn


def drop_token(x):
    x.value = x.value[:, 1:]


def flatten_heads(x):
    x.value = x.value.flatten(2)


def other_batch(x):
    x.locations = x.locations[:1]


def other_heads(x):
    x.locations = x.locations[:, :, :1]


def one_level_less(x):
    x.locations = x.locations[:, :, :, :1]


def three_coordinates(x):
    x.locations = torch.cat([x.locations, x.locations[..., :1]], -1)


def no_points(x):
    x.locations, x.weights = x.locations[:, :, :, :, :0], x.weights[..., :0]


def no_channels(x):
    x.value = x.value[..., :0]


def fewer_weights(x):
    x.weights = x.weights[:, :, :, :, :1]


def integer_value(x):
    x.value = x.value.long()


def half_locations(x):
    x.locations = x.locations.half()


def double_weights(x):
    x.weights = x.weights.double()


def other_device(x):
    x.weights = x.weights.to("meta")


# The inputs: B=2, N=3, H=2, c=5, Z=2, levels 4x3 and 1x1, thus S=13.
WRONG = [
    (drop_token, r"value must be \(batch, 13 tokens.*\[4, 3, 1, 1\].*[(\[]2, 12, 2, 5[)\]]"),
    (flatten_heads, r"value must be .*[(\[]2, 13, 10[)\]]"),
    (no_channels, r"value must be .*[(\[]2, 13, 2, 0[)\]]"),
    (other_batch, r"locations must be \(2, queries, 2 heads, 2 levels.*[(\[]1, 3, 2, 2, 2, 2[)\]]"),
    (other_heads, r"locations must be .*[(\[]2, 3, 1, 2, 2, 2[)\]]"),
    (one_level_less, r"locations must be .*[(\[]2, 3, 2, 1, 2, 2[)\]]"),
    (three_coordinates, r"locations must be .*[(\[]2, 3, 2, 2, 2, 3[)\]]"),
    (no_points, r"locations must be .*[(\[]2, 3, 2, 2, 0, 2[)\]]"),
    (fewer_weights, r"weights must .*[(\[]2, 3, 2, 2, 2[)\]], got [(\[]2, 3, 2, 2, 1[)\]]"),
    (integer_value, r"value must be float32, float64, float16 or bfloat16, got .*(int64|Long)"),
    (half_locations, r"locations .*must be .*[fF]loat.* got .*(float16|Half)"),
    (double_weights, r"weights .*must be .*[fF]loat.* got .*(float64|Double)"),
]


@pytest.mark.parametrize("change, message", [*WRONG, (other_device, "one device.*cpu.*meta")])
def test_function_and_both_implementations_say_what_is_wrong(change, message, make_inputs):
    x = make_inputs()
    change(x)
    with pytest.raises(ValueError, match=message):
        ms_deform_attn(x.value, x.shapes, x.locations, x.weights)


@pytest.mark.parametrize("forward_backward", ["compiled", "pytorch"], indirect=True)
@pytest.mark.parametrize("change, message", WRONG)
def test_direct_calls_of_the_operators_are_checked_too(
    change, message, make_inputs, forward_backward
):
    forward, backward = forward_backward
    x = make_inputs()
    grad = x.grad.to(x.value.dtype)
    change(x)
    with pytest.raises(ValueError, match=message):
        forward(x.value, x.flat, x.locations, x.weights)
    with pytest.raises(ValueError, match=message):
        backward(grad, x.value, x.flat, x.locations, x.weights)


@pytest.mark.parametrize("forward_backward", ["compiled", "pytorch"], indirect=True)
def test_gradient_of_another_shape(make_inputs, forward_backward):
    _, backward = forward_backward
    x = make_inputs()
    with pytest.raises(ValueError, match=r"grad must be \(2, 3, 10\), got .*2, 3, 9"):
        backward(x.grad[..., 1:], x.value, x.flat, x.locations, x.weights)


@pytest.mark.parametrize("flat", [[], [4, 3, 1], [0, 3, 13, 1], [-4, -3, 1, 1]])
@pytest.mark.usefixtures("needs_compiled")
def test_direct_call_with_sizes_that_are_none(flat, make_inputs):
    x = make_inputs()
    with pytest.raises(ValueError, match="shapes"):
        torch.ops.ms_detr.ms_deform_attn(x.value, flat, x.locations, x.weights)


@pytest.mark.parametrize(
    "shapes, message",
    [
        (torch.tensor([[4, 3], [1, 1]]), "Python integers, got a tensor"),
        ((), "at least one level"),
        (((4, 3, 1), (1, 1)), r"\(height, width\) integers"),
        (((4.0, 3.0), (1, 1)), r"\(height, width\) integers"),
        ((12, 1), r"\(height, width\) integers"),
        (((4, 3), (0, 1)), r"at least 1, got \(\(4, 3\), \(0, 1\)\)"),
    ],
)
def test_shapes_that_are_none(shapes, message, make_inputs):
    x = make_inputs()
    with pytest.raises(ValueError, match=message):
        ms_deform_attn(x.value, shapes, x.locations, x.weights)
