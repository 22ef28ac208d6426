"""The operator as torch sees it: autograd, tracing, compilation, autocast, threads."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ms_detr.ops import ms_deform_attn

FORWARD = torch.ops.ms_detr.ms_deform_attn.default
BACKWARD = torch.ops.ms_detr.ms_deform_attn_backward.default


def leaves(x):
    return [t.clone().requires_grad_() for t in (x.value, x.locations, x.weights)]


def test_schema():
    assert str(FORWARD._schema) == (
        "ms_detr::ms_deform_attn(Tensor value, SymInt[] shapes, Tensor locations, Tensor weights)"
        " -> Tensor"
    )


@pytest.mark.parametrize("shapes", [((3, 4), (1, 1)), ((2, 2),)])
def test_gradcheck(shapes, make_inputs):
    x = make_inputs(dtype=torch.float64, queries=2, channels=3, shapes=shapes)
    value, locations, weights = leaves(x)
    assert torch.autograd.gradcheck(
        lambda v, p, w: ms_deform_attn(v, shapes, p, w), (value, locations, weights)
    )


def test_opcheck(make_inputs):
    x = make_inputs()
    value, locations, weights = leaves(x)
    torch.library.opcheck(FORWARD, (value, x.flat, locations, weights))
    torch.library.opcheck(FORWARD, (x.value.half(), x.flat, x.locations, x.weights))
    torch.library.opcheck(BACKWARD, (x.grad, x.value, x.flat, x.locations, x.weights))


@pytest.mark.parametrize("wanted", [0, 1, 2])
def test_only_the_gradients_that_are_needed(wanted, make_inputs):
    x = make_inputs()
    tensors = [x.value, x.locations, x.weights]
    tensors[wanted].requires_grad_()
    ms_deform_attn(tensors[0], x.shapes, tensors[1], tensors[2]).sum().backward()
    assert [t.grad is not None for t in tensors] == [i == wanted for i in range(3)]
    value, locations, weights = (t.detach() for t in tensors)
    assert not ms_deform_attn(value, x.shapes, locations, weights).requires_grad


def test_second_derivative_is_refused(make_inputs):
    x = make_inputs()
    value, locations, weights = leaves(x)
    output = ms_deform_attn(value, x.shapes, locations, weights)
    (first,) = torch.autograd.grad(output.sum(), locations, create_graph=True)
    with pytest.raises(NotImplementedError, match="differentiated once"):
        first.sum().backward()


def test_meta_tensors(make_inputs):
    x = make_inputs(device="meta")
    output = ms_deform_attn(x.value, x.shapes, x.locations, x.weights)
    assert output.shape == (2, 3, 10) and output.device.type == "meta"


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compile_in_one_graph(backend, make_inputs):
    def attend(maps, locations, weights):
        shapes = tuple((m.shape[1], m.shape[2]) for m in maps)
        value = torch.cat([m.flatten(1, 2) for m in maps], 1)
        return ms_deform_attn(value.relu(), shapes, locations.sigmoid(), weights.softmax(-1))

    torch.compiler.reset()
    compiled = torch.compile(attend, fullgraph=True, backend=backend, dynamic=True)
    for batch, shapes in ((2, ((4, 3), (2, 2))), (3, ((5, 6), (3, 2)))):
        x = make_inputs(batch=batch, shapes=shapes)
        results = []
        for function in (attend, compiled):
            _, locations, weights = leaves(x)
            parts = x.value.split([h * w for h, w in shapes], 1)
            maps = [
                p.unflatten(1, s).detach().clone().requires_grad_() for p, s in zip(parts, shapes)
            ]
            output = function(maps, locations, weights)
            results.append(
                (output, *torch.autograd.grad(output, [*maps, locations, weights], x.grad))
            )
        for eager, other in zip(*results):
            torch.testing.assert_close(other, eager)


def test_compile_under_autocast(make_inputs):
    torch.compiler.reset()
    x = make_inputs(dtype=torch.bfloat16)

    def attend(value, locations, weights):
        with torch.autocast("cpu", torch.bfloat16):
            return ms_deform_attn(value, x.shapes, locations.bfloat16(), weights)

    compiled = torch.compile(attend, fullgraph=True, backend="aot_eager")
    inputs = leaves(x)
    actual = torch.autograd.grad(compiled(*inputs), inputs, x.grad)
    for a, e in zip(actual, torch.autograd.grad(attend(*inputs), inputs, x.grad)):
        torch.testing.assert_close(a, e)


@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_keeps_positions_in_float32(low, make_inputs):
    x = make_inputs()
    project = nn.Linear(5, 5)
    with torch.autocast("cpu", low):
        value = project(x.value)  # half precision, as any linear layer's output
        half = ms_deform_attn(value, x.shapes, x.locations.to(low), x.weights.to(low))
        whole = ms_deform_attn(value, x.shapes, x.locations, x.weights)
        float_value = ms_deform_attn(x.value, x.shapes, x.locations.to(low), x.weights)
    assert value.dtype == half.dtype == whole.dtype == low
    assert float_value.dtype == torch.float32
    # Given in float32 they are not rounded; given in half precision they are only widened.
    plain = ms_deform_attn(value, x.shapes, x.locations, x.weights)
    assert torch.equal(whole, plain)
    rounded = (t.to(low).float() for t in (x.locations, x.weights))
    widened = ms_deform_attn(value, x.shapes, *rounded)
    assert torch.equal(half, widened)
    assert not torch.equal(half, whole)


def test_autocast_gradients_reach_half_precision_leaves(make_inputs):
    x = make_inputs(dtype=torch.bfloat16)
    value = x.value.clone().requires_grad_()
    locations = x.locations.bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        output = ms_deform_attn(value, x.shapes, locations, x.weights)
    output.backward(x.grad)
    assert value.grad.dtype == locations.grad.dtype == torch.bfloat16
    expected = BACKWARD(x.grad, x.value, x.flat, locations.detach().float(), x.weights)
    torch.testing.assert_close(locations.grad, expected[1].bfloat16())


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.usefixtures("needs_compiled")
def test_same_bits_in_every_run_and_with_any_number_of_threads(make_inputs, threads):
    x = make_inputs(batch=3, queries=200, heads=3, channels=7, shapes=((9, 8), (4, 4)), points=4)
    runs = []
    for count in (1, 2, 2, 3):
        threads(count)
        output = FORWARD(x.value, x.flat, x.locations, x.weights)
        runs.append((output, *BACKWARD(x.grad, x.value, x.flat, x.locations, x.weights)))
    for run in runs[1:]:
        for first, other in zip(runs[0], run):
            assert torch.equal(first, other)
