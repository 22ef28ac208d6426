"""CUDA kernels against the CPU, in all dtypes. Needs a GPU and an extension built for it."""

from __future__ import annotations

import math

import pytest
import torch

from ms_detr.ops import implementation, ms_deform_attn, reference

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
# The order of the sums differs from run to run, and half precision results are rounded at the end.
TOLERANCE = {
    torch.float64: 1e-11,
    torch.float32: 1e-4,
    torch.float16: 2e-3,
    torch.bfloat16: 1.6e-2,
}
CASES = {
    "smallest": {"queries": 1, "heads": 1, "channels": 1, "points": 1, "shapes": ((1, 1),)},
    "odd_width": {
        "queries": 7,
        "heads": 3,
        "channels": 5,
        "points": 2,
        "shapes": ((4, 7), (1, 1), (2, 3)),
    },
    "usual": {
        "queries": 50,
        "heads": 8,
        "channels": 32,
        "points": 4,
        "shapes": ((16, 20), (8, 10), (4, 5)),
    },
    "wide": {"queries": 9, "heads": 2, "channels": 67, "points": 3, "shapes": ((3, 3), (1, 9))},
}


@pytest.fixture(autouse=True)
def needs_kernels():
    if implementation("cuda").name != "compiled":
        pytest.skip(f"needs CUDA kernels: {implementation('cuda')}")


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("batch", [0, 1, 3])
@pytest.mark.parametrize("case", CASES)
def test_output_and_gradients_are_those_of_the_cpu(case, batch, dtype, make_inputs):
    x = make_inputs(batch=batch, dtype=dtype, **CASES[case])
    expected = [reference.forward(x.value, x.flat, x.locations, x.weights)]
    expected += reference.backward(x.grad, x.value, x.flat, x.locations, x.weights)
    leaves = [t.cuda().requires_grad_() for t in (x.value, x.locations, x.weights)]
    output = ms_deform_attn(leaves[0], x.shapes, leaves[1], leaves[2])
    output.backward(x.grad.cuda())
    actual = [output.detach(), *(leaf.grad for leaf in leaves)]
    for a, e in zip(actual, expected):
        assert a.dtype == e.dtype
        torch.testing.assert_close(a.cpu(), e, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def test_gradcheck(make_inputs):
    x = make_inputs(dtype=torch.float64, queries=2, channels=3, device="cuda")
    tensors = [t.requires_grad_() for t in (x.value, x.locations, x.weights)]
    assert torch.autograd.gradcheck(
        lambda v, p, w: ms_deform_attn(v, x.shapes, p, w), tensors, nondet_tol=1e-12
    )


def test_opcheck(make_inputs):
    x = make_inputs(device="cuda")
    value, locations, weights = (t.requires_grad_() for t in (x.value, x.locations, x.weights))
    torch.library.opcheck(torch.ops.ms_detr.ms_deform_attn, (value, x.flat, locations, weights))


def test_no_queries_and_inputs_that_are_not_contiguous(make_inputs):
    x = make_inputs(queries=0, device="cuda")
    assert ms_deform_attn(x.value, x.shapes, x.locations, x.weights).shape == (2, 0, 10)
    x = make_inputs(device="cuda")
    value = x.value.transpose(1, 2).contiguous().transpose(1, 2)
    torch.testing.assert_close(
        ms_deform_attn(value, x.shapes, x.locations, x.weights),
        ms_deform_attn(x.value, x.shapes, x.locations, x.weights),
    )


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e30])
def test_wild_locations_read_nothing_outside(bad, make_inputs):
    x = make_inputs()
    x.locations[1, 2, 0, 1, 0, 0] = bad
    expected = reference.backward(x.grad, x.value, x.flat, x.locations, x.weights)
    leaves = [t.cuda().requires_grad_() for t in (x.value, x.locations, x.weights)]
    output = ms_deform_attn(leaves[0], x.shapes, leaves[1], leaves[2])
    output.backward(x.grad.cuda())
    torch.cuda.synchronize()
    assert output.isnan().sum() == (0 if math.isfinite(bad) else 5)
    for leaf, e in zip(leaves, expected):
        torch.testing.assert_close(leaf.grad.cpu(), e, rtol=1e-4, atol=1e-4, equal_nan=True)


def test_autocast_and_other_streams(make_inputs):
    x = make_inputs(dtype=torch.bfloat16, device="cuda")
    plain = ms_deform_attn(x.value, x.shapes, x.locations, x.weights)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream), torch.autocast("cuda", torch.bfloat16):
        cast = ms_deform_attn(x.value, x.shapes, x.locations, x.weights)
    torch.cuda.current_stream().wait_stream(stream)
    assert torch.equal(cast, plain) and cast.dtype == torch.bfloat16


def test_more_levels_than_the_kernel_takes(make_inputs):
    x = make_inputs(shapes=((1, 1),) * 33, device="cuda")
    with pytest.raises(ValueError, match="at most 32 levels"):
        ms_deform_attn(x.value, x.shapes, x.locations, x.weights)
