"""The fused operator on a GPU against the CPU. Needs a GPU and an extension built for it."""

from __future__ import annotations

import pytest
import torch

from ms_detr.ops import fused_deform_attn, implementation, unfused

pytestmark = pytest.mark.gpu
TOLERANCE = {
    torch.float64: 1e-11,
    torch.float32: 1e-4,
    torch.float16: 2e-3,
    torch.bfloat16: 1.6e-2,
}


@pytest.fixture(autouse=True)
def needs_kernels():
    if implementation("cuda").name != "compiled":
        pytest.skip(f"needs CUDA kernels: {implementation('cuda')}")


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("queries", [0, 50])
@pytest.mark.parametrize("r", [2, 4])
def test_output_and_gradients_are_those_of_the_cpu(r, queries, dtype, make_fused_inputs):
    x = make_fused_inputs(
        r, queries=queries, heads=8, channels=32, points=4, shapes=((16, 20), (8, 10)), dtype=dtype
    )
    inputs = (x.value, x.reference, x.offsets, x.logits)
    expected = [unfused.forward(x.value, x.flat, *inputs[1:])]
    expected += unfused.backward(x.grad, x.value, x.flat, *inputs[1:])
    leaves = [t.cuda().requires_grad_() for t in inputs]
    output = fused_deform_attn(leaves[0], x.shapes, *leaves[1:])
    output.backward(x.grad.cuda())
    for actual, wanted in zip([output.detach(), *(leaf.grad for leaf in leaves)], expected):
        assert actual.dtype == wanted.dtype
        tolerance = TOLERANCE[dtype]
        torch.testing.assert_close(actual.cpu(), wanted, rtol=tolerance, atol=4 * tolerance)


@pytest.mark.parametrize("r", [2, 4])
def test_gradcheck_and_opcheck(r, make_fused_inputs):
    x = make_fused_inputs(r, dtype=torch.float64, queries=2, channels=3, device="cuda")
    tensors = [t.requires_grad_() for t in (x.value, x.reference, x.offsets, x.logits)]
    assert torch.autograd.gradcheck(
        lambda value, *others: fused_deform_attn(value, x.shapes, *others),
        tensors,
        nondet_tol=1e-12,
    )
    operator = torch.ops.ms_detr.fused_deform_attn
    torch.library.opcheck(operator, (tensors[0], x.flat, *tensors[1:]))


def test_the_host_does_not_wait_for_the_device(make_fused_inputs):
    x = make_fused_inputs(device="cuda")
    leaves = [t.requires_grad_() for t in (x.value, x.reference, x.offsets, x.logits)]
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        fused_deform_attn(leaves[0], x.shapes, *leaves[1:]).backward(x.grad)
    finally:
        torch.cuda.set_sync_debug_mode("default")
