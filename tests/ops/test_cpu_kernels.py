"""The compiled CPU kernels, plain and fused, against loops; once for every instruction set."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from slow_loops import expected_fused, expected_plain, make

from ms_detr.ops import implementation

OPS = torch.ops.ms_detr
TOLERANCE = {
    torch.float64: 1e-11,
    torch.float32: 5e-5,
    torch.float16: 2e-3,
    torch.bfloat16: 1.6e-2,
}
pytestmark = pytest.mark.skipif(
    implementation("cpu").name != "compiled", reason="needs the compiled extension"
)


def plain(x):
    """Output and gradients of the kernels of the plain operator."""
    inputs = x.value, x.flat, x.locations, x.weights
    return OPS.ms_deform_attn(*inputs), *OPS.ms_deform_attn_backward(x.grad, *inputs)


def fused(x):
    """Output and gradients of the kernels of the fused operator."""
    inputs = x.value, x.flat, x.reference, x.offsets, x.logits
    return OPS.fused_deform_attn(*inputs), *OPS.fused_deform_attn_backward(x.grad, *inputs)


def assert_near(actual, expected, dtype):
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a.double(), e, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


# With 2 queries tokens are read where they lie, with 20 from a copy of each head.
@pytest.mark.parametrize("queries", [2, 20])
@pytest.mark.parametrize("channels", [1, 3, 8, 16, 32, 33, 64])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_head_widths(dtype, channels, queries):
    x = make(dtype, channels, 4, 4, queries)
    assert_near(plain(x), expected_plain(x), dtype)


@pytest.mark.parametrize("queries", [2, 20])
@pytest.mark.parametrize("levels, points", [(1, 1), (1, 4), (2, 3), (3, 8), (5, 4)])
@pytest.mark.parametrize("channels", [32, 5])
def test_levels_and_points(channels, levels, points, queries):
    x = make(torch.float32, channels, levels, points, queries)
    assert_near(plain(x), expected_plain(x), torch.float32)


@pytest.mark.parametrize("reference_size", [2, 4])
@pytest.mark.parametrize("queries", [2, 20])
@pytest.mark.parametrize("levels, points", [(4, 4), (1, 4), (2, 3), (5, 4), (5, 1)])
@pytest.mark.parametrize(
    "dtype, channels", [(torch.float32, 32), (torch.float64, 8), (torch.bfloat16, 32)]
)
def test_fused(dtype, channels, levels, points, queries, reference_size):
    x = make(dtype, channels, levels, points, queries, reference_size=reference_size)
    assert_near(fused(x), expected_fused(x), dtype)


@pytest.mark.parametrize("scale", [30.0, 3000.0])
def test_softmax_of_large_and_distant_logits(scale):
    x = make(torch.float32, 32, 4, 4, 20)
    x.logits *= scale
    output = OPS.fused_deform_attn(x.value, x.flat, x.reference, x.offsets, x.logits)
    torch.testing.assert_close(output.double(), expected_fused(x)[0], rtol=5e-5, atol=5e-5)


@pytest.mark.parametrize("operator", [plain, fused])
@pytest.mark.parametrize("queries", [2, 20])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_non_finite_places_show_in_their_head_alone(bad, queries, operator):
    x = make(torch.float32, 32, 4, 4, queries)
    clean = operator(x)
    for sample in range(16):
        y = make(torch.float32, 32, 4, 4, queries)
        places = y.locations if operator is plain else y.offsets
        places[1, 1, 0].view(16, 2)[sample, sample % 2] = bad
        output, of_value, *_, of_places, of_shares = operator(y)
        expected = clean[0].clone()
        expected[1, 1, :32] = math.nan
        torch.testing.assert_close(output, expected, equal_nan=True)
        assert of_value.isfinite().all()
        wrong = of_places.isnan().all(-1)
        assert wrong[1, 1, 0].flatten()[sample] and wrong.sum() == 1
        assert of_shares[1, 1, 0].isnan().any()
        assert of_shares[0].isfinite().all() and of_shares[1, 0].isfinite().all()


@pytest.mark.parametrize("queries", [2, 20])
@pytest.mark.parametrize("far", [-1e30, -7.0, 7.0, 1e9, 3e38])
def test_nothing_is_read_outside_of_the_image(far, queries):
    x = make(torch.float32, 32, 4, 4, queries, batch=3)
    x.locations[1, :, :, :, :2] = far
    x.locations[1, :, :, :, 2, 0] = far
    expected = expected_plain(x)
    x.value[0], x.value[2] = math.nan, math.nan
    actual = plain(x)
    assert_near([a[1] for a in actual], [e[1] for e in expected], torch.float32)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("queries", [2, 20])
@pytest.mark.parametrize(
    "dtype, channels", [(torch.float32, 32), (torch.float64, 3), (torch.half, 8)]
)
def test_token_that_is_not_finite_shows_where_it_is_read_and_only_there(
    dtype, channels, queries, bad
):
    x = make(dtype, channels, 4, 4, queries)
    x.value[0, :143:7, 1] = bad  # of the level of 11x13, the border among them
    x.value[1, -1, 0, 0] = bad  # the level of 2x2
    with np.errstate(invalid="ignore"):
        expected = expected_plain(x)
    assert 0 < expected[0].isfinite().sum() < expected[0].numel()
    for a, e in zip(plain(x), expected, strict=True):
        assert torch.equal(a.isfinite(), e.isfinite()) and torch.equal(a.isnan(), e.isnan())
        finite = e.isfinite()
        assert_near([a[finite]], [e[finite]], dtype)


@pytest.mark.parametrize("operator", [plain, fused])
@pytest.mark.parametrize("batch, queries", [(0, 3), (2, 0), (0, 0)])
def test_zero_sizes(batch, queries, operator):
    x = make(torch.float32, 32, 4, 4, queries, batch=batch)
    output, of_value, *others = operator(x)
    assert output.shape == (batch, queries, 64) and output.numel() == 0
    assert of_value.shape == x.value.shape and not of_value.any()
    assert all(g.numel() == 0 for g in others)


@pytest.mark.parametrize("queries", [2, 20])
def test_inputs_need_not_be_contiguous(queries):
    x = make(torch.float32, 32, 4, 4, queries, reference_size=4)
    expected = fused(x)
    x.grad = x.grad.repeat_interleave(2, -1)[..., ::2]
    for name in ("value", "reference", "offsets", "logits"):
        tensor = getattr(x, name)
        setattr(x, name, tensor.transpose(0, -1).contiguous().transpose(0, -1))
        assert not getattr(x, name).is_contiguous()
    for a, e in zip(fused(x), expected):
        assert a.is_contiguous() and torch.equal(a, e)


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("operator", [plain, fused])
@pytest.mark.parametrize("queries", [9, 150])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_same_bits_in_every_run_and_with_any_number_of_threads(dtype, queries, operator, threads):
    x = make(dtype, 32, 4, 4, queries, batch=3, heads=8)
    runs = []
    for count in (1, 2, 2, 3):
        threads(count)
        runs.append(operator(x))
    for run in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(runs[0], run, strict=True))


def test_several_python_threads_at_once():
    cases = [make(torch.float32, 32, 4, 4, queries, seed=queries) for queries in (2, 20, 60, 90)]
    expected = [(plain(x), fused(x)) for x in cases]
    same = []

    def work(x, results):
        for _ in range(10):
            for actual, wanted in zip((plain(x), fused(x)), results):
                same.append(all(torch.equal(a, w) for a, w in zip(actual, wanted)))

    workers = [threading.Thread(target=work, args=pair) for pair in zip(cases, expected)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(same) == 80 and all(same)


LIMIT = os.environ.get("MS_DETR_CPU_CAPABILITY")


def active():
    from ms_detr import _C

    return _C.cpu_capability()


def limited(capability, *command):
    return subprocess.run(
        [sys.executable, *command],
        env={**os.environ, "MS_DETR_CPU_CAPABILITY": capability},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(LIMIT is not None, reason="this is such a run")
@pytest.mark.parametrize("capability", ["avx2", "sse2"])
def test_all_of_this_with_a_weaker_instruction_set(capability):
    known = ["sse2", "avx2", "avx512"]
    if known.index(active()) <= known.index(capability):
        pytest.skip(f"this machine uses {active()} anyway")
    done = limited(capability, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", __file__)
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.skipif(LIMIT is None, reason="there is no limit")
def test_limit_is_heeded():
    known = ["sse2", "avx2", "avx512"]
    assert known.index(active()) <= known.index(LIMIT)


@pytest.mark.skipif(LIMIT is not None, reason="once is enough")
def test_unknown_instruction_set_is_refused():
    done = limited("avx3", "-c", "import torch; from ms_detr import _C; _C.cpu_capability()")
    assert "ValueError: MS_DETR_CPU_CAPABILITY=avx3 is not known; set it to one of" in done.stderr
