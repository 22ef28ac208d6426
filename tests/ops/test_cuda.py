"""Both operators on a GPU against the CPU. Needs a GPU and an extension built for it; what the
kernels compute is tested without one in test_cuda_emulated.py."""

from __future__ import annotations

import math

import pytest
import torch

from ms_detr.ops import fused_deform_attn, implementation, ms_deform_attn

pytestmark = pytest.mark.gpu
OPS = torch.ops.ms_detr
# The order of the sums differs, and half precision results are rounded at the end.
TOLERANCE = {
    torch.float64: 1e-11,
    torch.float32: 1e-4,
    torch.float16: 2e-3,
    torch.bfloat16: 1.6e-2,
}
CASES = {
    "smallest": {"queries": 1, "heads": 1, "channels": 1, "points": 1, "shapes": ((1, 1),)},
    "odd": {
        "queries": 7,
        "heads": 3,
        "channels": 5,
        "points": 2,
        "shapes": ((4, 7), (1, 1), (2, 3)),
    },
    "usual": {
        "queries": 300,
        "heads": 8,
        "channels": 32,
        "points": 4,
        "shapes": ((16, 32), (8, 16), (4, 8), (2, 4)),
    },
    "wide": {"queries": 9, "heads": 2, "channels": 67, "points": 3, "shapes": ((3, 3), (1, 9))},
    "wider_than_a_warp": {
        "queries": 9,
        "heads": 2,
        "channels": 288,
        "points": 9,
        "shapes": ((3, 3), (1, 9)),
    },
}
OPERATORS = ["plain", "points", "boxes"]


@pytest.fixture(autouse=True)
def needs_kernels():
    if implementation("cuda").name != "compiled":
        pytest.skip(f"needs CUDA kernels: {implementation('cuda')}")


def rounded(tensor, step):
    return (tensor / step).round() * step


@pytest.fixture
def make(make_inputs, make_fused_inputs):
    """Inputs of one operator; `others` are the tensors behind the sizes.

    Positions are short binary fractions, exact on both sides where widths are powers of two: next
    to a pixel's centre the last bit of a position decides about its derivative.
    """

    def get(operator, **sizes):
        if operator == "plain":
            x = make_inputs(**sizes)
            x.others = [rounded(x.locations, 2**-12), x.weights]
        else:
            x = make_fused_inputs({"points": 2, "boxes": 4}[operator], **sizes)
            x.others = [rounded(x.reference, 2**-8), rounded(x.offsets, 2**-6), x.logits]
        return x

    return get


def run(x, device):
    """Output and gradients, through autograd, on a device."""
    function = ms_deform_attn if len(x.others) == 2 else fused_deform_attn
    leaves = [t.detach().to(device).requires_grad_() for t in (x.value, *x.others)]
    output = function(leaves[0], x.shapes, *leaves[1:])
    output.backward(x.grad.to(device))
    return [output.detach(), *(leaf.grad for leaf in leaves)]


def assert_near(actual, expected, dtype, factor=4, **options):
    tolerance = factor * TOLERANCE[dtype]
    for a, e in zip(actual, expected, strict=True):
        assert a.dtype == e.dtype
        torch.testing.assert_close(a.cpu(), e.cpu(), rtol=tolerance, atol=tolerance, **options)


@pytest.fixture
def deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("batch", [0, 1, 3])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("operator", OPERATORS)
def test_output_and_gradients_are_those_of_the_cpu(operator, case, batch, dtype, make):
    x = make(operator, batch=batch, dtype=dtype, **CASES[case])
    assert_near(run(x, "cuda"), run(x, "cpu"), dtype)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.usefixtures("deterministic")
def test_deterministic_mode(operator, case, dtype, make):
    x = make(operator, dtype=dtype, **CASES[case])
    first = run(x, "cuda")
    assert_near(first, run(x, "cpu"), dtype)
    for _ in range(5):
        assert all(torch.equal(a, b) for a, b in zip(run(x, "cuda"), first))


@pytest.mark.parametrize("r", [2, 4])
def test_fused_is_the_plain_operator_on_softmax_and_locations(r, make_fused_inputs):
    x = make_fused_inputs(r, device="cuda", **CASES["usual"])
    center = x.reference[:, :, None, :, None, :2]
    if r == 2:
        unit = 1 / torch.tensor([(w, h) for h, w in x.shapes], device="cuda")[:, None]
    else:
        unit = x.reference[:, :, None, :, None, 2:] * (0.5 / x.offsets.shape[4])
    locations = center + x.offsets * unit
    weights = x.logits.softmax(-1).view(x.offsets.shape[:5])
    torch.testing.assert_close(
        fused_deform_attn(x.value, x.shapes, x.reference, x.offsets, x.logits),
        ms_deform_attn(x.value, x.shapes, locations, weights),
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.parametrize("operator", OPERATORS)
def test_gradcheck_opcheck_and_compile(operator, make):
    x = make(operator, dtype=torch.float64, queries=2, channels=3, device="cuda")
    function = ms_deform_attn if operator == "plain" else fused_deform_attn
    tensors = [t.requires_grad_() for t in (x.value, *x.others)]

    def attend(value, *others):
        return function(value, x.shapes, *others)

    assert torch.autograd.gradcheck(attend, tensors, nondet_tol=1e-12)
    name = "ms_deform_attn" if operator == "plain" else "fused_deform_attn"
    torch.library.opcheck(getattr(OPS, name).default, (tensors[0], x.flat, *tensors[1:]))
    torch.compiler.reset()
    compiled = torch.compile(attend, fullgraph=True)(*tensors)
    torch.testing.assert_close(compiled, attend(*tensors))
    actual = torch.autograd.grad(compiled, tensors, x.grad)
    expected = torch.autograd.grad(attend(*tensors), tensors, x.grad)
    for a, e in zip(actual, expected):
        torch.testing.assert_close(a, e)


@pytest.mark.parametrize("operator", OPERATORS)
def test_inputs_that_are_not_contiguous_or_not_aligned(operator, make):
    x = make(operator, **CASES["usual"])
    expected = run(x, "cpu")
    x.value = x.value.cuda().transpose(1, 2).contiguous().transpose(1, 2)
    x.others = [t.cuda().transpose(0, 1).contiguous().transpose(0, 1) for t in x.others]
    assert_near(run(x, "cuda"), expected, torch.float32)
    x.value = torch.cat([x.value.new_zeros(1), x.value.flatten()])[1:].view(x.value.shape)
    assert x.value.data_ptr() % 16 == 4
    assert_near(run(x, "cuda"), expected, torch.float32)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e30])
@pytest.mark.parametrize("operator", OPERATORS)
def test_wild_places_are_treated_as_on_the_cpu(operator, bad, make):
    x = make(operator)
    x.others[-2][1, 2, 0, 1, 0, 0] = bad
    expected = run(x, "cpu")
    assert expected[0].isnan().sum() == (0 if math.isfinite(bad) else 5)
    assert_near(run(x, "cuda"), expected, torch.float32, equal_nan=True)


@pytest.mark.parametrize("operator", OPERATORS)
def test_autocast_and_another_stream(operator, make):
    x = make(operator, dtype=torch.bfloat16, **CASES["usual"])
    plain = run(x, "cuda")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream), torch.autocast("cuda", torch.bfloat16):
        cast = run(x, "cuda")
    torch.cuda.current_stream().wait_stream(stream)
    assert torch.equal(cast[0], plain[0]) and cast[0].dtype == torch.bfloat16
    assert_near(cast, plain, torch.bfloat16)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("operator", OPERATORS)
def test_a_device_that_is_not_the_current_one(operator, make):
    x = make(operator, **CASES["usual"])
    with torch.cuda.device(0):
        results = run(x, "cuda:1")
    assert all(t.device.index == 1 for t in results)
    assert_near(results, run(x, "cpu"), torch.float32)


@pytest.mark.parametrize("operator", OPERATORS)
def test_batches_of_any_size(operator, make):
    """More images than a grid has rows; the first kernels wanted a divisor of 64."""
    x = make(operator, batch=65537, queries=1, heads=1, channels=4, points=1, shapes=((1, 2),))
    assert_near(run(x, "cuda"), run(x, "cpu"), torch.float32)


def test_offsets_beyond_32_bits():
    """More than 2^31 numbers in the tokens of one image."""
    height, width, heads, channels = 4096, 2049, 8, 32
    free, _ = torch.cuda.mem_get_info()
    if free < 16 * 2**30:
        pytest.skip("needs 16 GB of GPU memory")
    value = torch.zeros(1, height * width, heads, channels, dtype=torch.half, device="cuda")
    value[0, -1, -1] = 1
    last = torch.tensor([(width - 0.5) / width, (height - 0.5) / height], device="cuda")
    locations = last.expand(1, 1, heads, 1, 1, 2)
    weights = torch.ones(1, 1, heads, 1, 1, device="cuda")
    output = ms_deform_attn(value, ((height, width),), locations, weights)
    torch.testing.assert_close(
        output[0, 0, -channels:].float().mean().item(), 1.0, rtol=2e-3, atol=0
    )
    assert not output[0, 0, :-channels].any()
    of_value, _, _ = OPS.ms_deform_attn_backward(output, value, [height, width], locations, weights)
    torch.testing.assert_close(of_value[0, -1, -1].float().mean().item(), 1.0, rtol=4e-3, atol=0)


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("ordered", [False, True], ids=["atomic", "deterministic"])
def test_the_host_does_not_wait_for_the_device(ordered, operator, make):
    x = make(operator, device="cuda")
    run(x, "cuda")
    torch.cuda.synchronize()
    torch.use_deterministic_algorithms(ordered)
    torch.cuda.set_sync_debug_mode("error")
    try:
        run(x, "cuda")
    finally:
        torch.cuda.set_sync_debug_mode("default")
        torch.use_deterministic_algorithms(False)


def test_more_levels_than_the_kernels_take(make_inputs):
    x = make_inputs(shapes=((1, 1),) * 33, device="cuda")
    with pytest.raises(ValueError, match="at most 32 levels"):
        ms_deform_attn(x.value, x.shapes, x.locations, x.weights)
