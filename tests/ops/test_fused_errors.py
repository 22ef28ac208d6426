"""Arguments of the fused operator that do not fit: the message names the argument."""

from __future__ import annotations

import pytest
import torch

from ms_detr.ops import fused_deform_attn

# The inputs: B=2, N=3, H=2, c=5, Z=2, levels 4x3 and 1x1, thus S=13; r=2.
# argument, what is done to it, what the message says.
WRONG = [
    ("value", lambda t: t[:, 1:], r"value must be \(batch, 13 tokens.*[(\[]2, 12, 2, 5[)\]]"),
    ("value", lambda t: t.flatten(2), r"value must be .*[(\[]2, 13, 10[)\]]"),
    ("value", lambda t: t.long(), r"value must be float32.*got .*(int64|Long)"),
    ("reference", lambda t: t[:1], r"reference must .*[(\[]1, 3, 2, 2[)\]]"),
    ("reference", lambda t: t[:, :, :1], r"reference must .*[(\[]2, 3, 1, 2[)\]]"),
    ("reference", lambda t: t[:, :, 0], r"reference must .*[(\[]2, 3, 2[)\]]"),
    ("reference", lambda t: torch.cat([t, t[..., :1]], -1), r"reference must .*[(\[]2, 3, 2, 3"),
    ("reference", lambda t: t[..., :1], r"reference must .*[(\[]2, 3, 2, 1[)\]]"),
    ("reference", lambda t: t.half(), r"reference.*must be .*[fF]loat.* got .*(float16|Half)"),
    # Two of three agree on the number of queries: the third is named.
    (
        "offsets",
        lambda t: t[:, :2],
        r"offsets must be \(2, 3 queries, .*[(\[]2, 2, 2, 2, 2, 2[)\]]",
    ),
    ("reference", lambda t: t[:, :2], r"reference must be \(2, 3 queries, .*[(\[]2, 2, 2, 2[)\]]"),
    ("logits", lambda t: t[:, :2], r"logits must be \(2, 3, 2, 4\).*[(\[]2, 2, 2, 4[)\]]"),
    ("offsets", lambda t: t[:, :, :1], r"offsets must .*[(\[]2, 3, 1, 2, 2, 2[)\]]"),
    ("offsets", lambda t: t[:, :, :, :1], r"offsets must .*[(\[]2, 3, 2, 1, 2, 2[)\]]"),
    ("offsets", lambda t: t[..., :0, :], r"offsets must .*[(\[]2, 3, 2, 2, 0, 2[)\]]"),
    ("offsets", lambda t: t[..., :1], r"offsets must .*[(\[]2, 3, 2, 2, 2, 1[)\]]"),
    ("offsets", lambda t: t.flatten(3), r"offsets must .*[(\[]2, 3, 2, 8[)\]]"),
    ("offsets", lambda t: t.double(), r"offsets.*must be .*[fF]loat.* got .*([dD]ouble|float64)"),
    ("logits", lambda t: t[..., :3], r"logits must .*[(\[]2, 3, 2, 4[)\]].*[(\[]2, 3, 2, 3[)\]]"),
    ("logits", lambda t: t.unflatten(-1, (2, 2)), r"logits must .*[(\[]2, 3, 2, 2, 2[)\]]"),
    ("logits", lambda t: t.half(), r"logits.*must be .*[fF]loat.* got .*(float16|Half)"),
]


@pytest.mark.parametrize(
    "name, change, message",
    [*WRONG, ("logits", lambda t: t.to("meta"), "one device.*cpu.*meta")],
)
def test_function_says_what_is_wrong(name, change, message, make_fused_inputs):
    x = make_fused_inputs()
    setattr(x, name, change(getattr(x, name)))
    with pytest.raises(ValueError, match="fused_deform_attn: .*" + message):
        fused_deform_attn(x.value, x.shapes, x.reference, x.offsets, x.logits)


@pytest.mark.parametrize("name, change, message", WRONG)
def test_direct_calls_of_the_operators_are_checked_too(
    name, change, message, make_fused_inputs, fused_forward_backward
):
    forward, backward = fused_forward_backward
    x = make_fused_inputs()
    setattr(x, name, change(getattr(x, name)))
    arguments = (x.value, x.flat, x.reference, x.offsets, x.logits)
    with pytest.raises(ValueError, match=message):
        forward(*arguments)
    with pytest.raises(ValueError, match=message):
        backward(x.grad.to(x.value.dtype), *arguments)


def test_three_numbers_of_queries(make_fused_inputs, fused_forward_backward):
    forward, _ = fused_forward_backward
    x = make_fused_inputs()
    with pytest.raises(ValueError, match="same number of queries, got .*2, 3.*2, 2.*2, 1.*"):
        forward(x.value, x.flat, x.reference, x.offsets[:, :2], x.logits[:, :1])


def test_gradient_of_another_shape(make_fused_inputs, fused_forward_backward):
    _, backward = fused_forward_backward
    x = make_fused_inputs()
    with pytest.raises(ValueError, match=r"grad must be \(2, 3, 10\), got .*2, 3, 9"):
        backward(x.grad[..., 1:], x.value, x.flat, x.reference, x.offsets, x.logits)


@pytest.mark.parametrize(
    "shapes, message",
    [
        (torch.tensor([[4, 3], [1, 1]]), "Python integers, got a tensor"),
        ((), "at least one level"),
        (((4, 3), (0, 1)), r"at least 1, got \(\(4, 3\), \(0, 1\)\)"),
    ],
)
def test_shapes_that_are_none(shapes, message, make_fused_inputs):
    x = make_fused_inputs()
    with pytest.raises(ValueError, match="fused_deform_attn: .*" + message):
        fused_deform_attn(x.value, shapes, x.reference, x.offsets, x.logits)
