"""The fused operator as torch sees it: autograd, tracing, compilation, export, autocast."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from ms_detr.ops import fused_deform_attn

FORWARD = torch.ops.ms_detr.fused_deform_attn.default
BACKWARD = torch.ops.ms_detr.fused_deform_attn_backward.default


def inputs(x):
    return [x.value, x.reference, x.offsets, x.logits]


def leaves(x):
    return [t.clone().requires_grad_() for t in inputs(x)]


def attend(x, value, *others):
    return fused_deform_attn(value, x.shapes, *others)


def test_schema():
    assert str(FORWARD._schema) == (
        "ms_detr::fused_deform_attn(Tensor value, SymInt[] shapes, Tensor reference, "
        "Tensor offsets, Tensor logits) -> Tensor"
    )
    assert str(BACKWARD._schema) == (
        "ms_detr::fused_deform_attn_backward(Tensor grad, Tensor value, SymInt[] shapes, "
        "Tensor reference, Tensor offsets, Tensor logits) -> (Tensor, Tensor, Tensor, Tensor)"
    )


@pytest.mark.parametrize("r", [2, 4])
@pytest.mark.parametrize("shapes", [((3, 4), (1, 1)), ((2, 2),)])
def test_gradcheck(shapes, r, make_fused_inputs):
    x = make_fused_inputs(r, dtype=torch.float64, queries=2, channels=3, shapes=shapes)
    assert torch.autograd.gradcheck(lambda *tensors: attend(x, *tensors), leaves(x))


@pytest.mark.parametrize("r", [2, 4])
def test_opcheck(r, make_fused_inputs):
    x = make_fused_inputs(r)
    value, *others = leaves(x)
    torch.library.opcheck(FORWARD, (value, x.flat, *others))
    torch.library.opcheck(FORWARD, (x.value.half(), x.flat, *inputs(x)[1:]))
    torch.library.opcheck(BACKWARD, (x.grad, x.value, x.flat, *inputs(x)[1:]))


@pytest.mark.parametrize("wanted", range(4))
def test_only_the_gradients_that_are_needed(wanted, make_fused_inputs):
    x = make_fused_inputs(4)
    tensors = inputs(x)
    tensors[wanted].requires_grad_()
    attend(x, *tensors).sum().backward()
    assert [t.grad is not None for t in tensors] == [i == wanted for i in range(4)]
    assert not attend(x, *(t.detach() for t in tensors)).requires_grad


def test_only_the_inputs_are_kept_for_the_gradients(make_fused_inputs):
    x = make_fused_inputs()
    tensors, kept = leaves(x), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        attend(x, *tensors)
    assert {t.data_ptr() for t in kept} == {t.data_ptr() for t in tensors}


def test_second_derivative_is_refused(make_fused_inputs):
    x = make_fused_inputs()
    tensors = leaves(x)
    (first,) = torch.autograd.grad(attend(x, *tensors).sum(), tensors[2], create_graph=True)
    with pytest.raises(NotImplementedError, match="fused_deform_attn can be differentiated once"):
        first.sum().backward()


def test_meta_tensors(make_fused_inputs):
    x = make_fused_inputs(device="meta")
    output = attend(x, *inputs(x))
    assert output.shape == (2, 3, 10) and output.device.type == "meta"


class Attention(nn.Module):
    def forward(self, maps, reference, offsets, logits):
        shapes = tuple((m.shape[1], m.shape[2]) for m in maps)
        value = torch.cat([m.flatten(1, 2) for m in maps], 1)
        return fused_deform_attn(value.relu(), shapes, reference.sigmoid(), offsets, logits)


def as_maps(x):
    parts = x.value.split([h * w for h, w in x.shapes], 1)
    return [p.unflatten(1, s).detach().clone() for p, s in zip(parts, x.shapes)]


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compile_in_one_graph(backend, make_fused_inputs):
    torch.compiler.reset()
    eager = Attention()
    compiled = torch.compile(eager, fullgraph=True, backend=backend, dynamic=True)
    for batch, shapes in ((2, ((4, 3), (2, 2))), (3, ((5, 6), (3, 2)))):
        x = make_fused_inputs(4, batch=batch, shapes=shapes)
        results = []
        for function in (eager, compiled):
            maps, others = [m.requires_grad_() for m in as_maps(x)], leaves(x)[1:]
            output = function(maps, *others)
            results.append((output, *torch.autograd.grad(output, [*maps, *others], x.grad)))
        for expected, actual in zip(*results):
            torch.testing.assert_close(actual, expected)


def test_export(make_fused_inputs):
    x = make_fused_inputs()
    arguments = (as_maps(x), *inputs(x)[1:])
    program = torch.export.export(Attention(), arguments)
    assert any(node.target is FORWARD for node in program.graph.nodes)
    torch.testing.assert_close(program.module()(*arguments), Attention()(*arguments))


def test_compile_under_autocast(make_fused_inputs):
    torch.compiler.reset()
    x = make_fused_inputs(dtype=torch.bfloat16)

    def half_offsets(value, reference, offsets, logits):
        with torch.autocast("cpu", torch.bfloat16):
            return attend(x, value, reference, offsets.bfloat16(), logits)

    compiled = torch.compile(half_offsets, fullgraph=True, backend="aot_eager")
    tensors = leaves(x)
    actual = torch.autograd.grad(compiled(*tensors), tensors, x.grad)
    for a, e in zip(actual, torch.autograd.grad(half_offsets(*tensors), tensors, x.grad)):
        torch.testing.assert_close(a, e)


@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_keeps_positions_in_float32(low, make_fused_inputs):
    x = make_fused_inputs()
    project = nn.Linear(5, 5)
    with torch.autocast("cpu", low):
        value = project(x.value)
        half = attend(x, value, *(t.to(low) for t in inputs(x)[1:]))
        whole = attend(x, value, *inputs(x)[1:])
    assert value.dtype == half.dtype == whole.dtype == low
    assert torch.equal(whole, attend(x, value, *inputs(x)[1:]))
    widened = attend(x, value, *(t.to(low).float() for t in inputs(x)[1:]))
    assert torch.equal(half, widened)
    assert not torch.equal(half, whole)


def test_autocast_gradients_reach_half_precision_leaves(make_fused_inputs):
    x = make_fused_inputs(dtype=torch.bfloat16)
    offsets = x.offsets.bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        output = attend(x, x.value, x.reference, offsets, x.logits)
    output.backward(x.grad)
    wide = offsets.detach().float()
    expected = BACKWARD(x.grad, x.value, x.flat, x.reference, wide, x.logits)[2]
    torch.testing.assert_close(offsets.grad, expected.bfloat16())


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def large(make_fused_inputs, seed=0):
    return make_fused_inputs(
        4, batch=3, queries=200, heads=3, channels=7, shapes=((9, 8), (4, 4)), points=4, seed=seed
    )


@pytest.mark.usefixtures("needs_compiled")
def test_same_bits_in_every_run_and_with_any_number_of_threads(make_fused_inputs, threads):
    x = large(make_fused_inputs)
    value, *others = inputs(x)
    runs = []
    for count in (1, 2, 2, 3):
        threads(count)
        output = FORWARD(value, x.flat, *others)
        runs.append((output, *BACKWARD(x.grad, value, x.flat, *others)))
    for run in runs[1:]:
        for first, other in zip(runs[0], run):
            assert torch.equal(first, other)


def test_calls_from_several_python_threads_do_not_disturb_each_other(make_fused_inputs):
    problems = [large(make_fused_inputs, seed) for seed in range(4)]

    def work(x):
        tensors = leaves(x)
        output = attend(x, *tensors)
        return (output.detach(), *torch.autograd.grad(output, tensors, x.grad))

    expected = [work(x) for x in problems]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(work, problems * 8))
    for index, result in enumerate(results):
        for actual, wanted in zip(result, expected[index % len(problems)]):
            torch.testing.assert_close(actual, wanted)
