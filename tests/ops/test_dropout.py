"""Dropout that computes its mask anew: laws, statistics, gradients, threads, what torch sees."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from ms_detr.ops import dropout, dropout_

DROPOUT = torch.ops.ms_detr.dropout
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


@pytest.fixture(autouse=True)
def _needs_compiled(needs_compiled):
    pass


def seed_of(number):
    return torch.tensor(number)


def kept(count, seed, p):
    """Which of ``count`` positions a seed keeps."""
    return DROPOUT(torch.ones(count), seed_of(seed), p) > 0


def philox(counter, key):
    """One block of Philox-4x32-10 by its definition, in Python integers."""
    x, key, mask = list(counter), list(key), 2**32 - 1
    for _ in range(10):
        a, b = 0xD2511F53 * x[0], 0xCD9E8D57 * x[2]
        x = [(b >> 32) ^ x[1] ^ key[0], b & mask, (a >> 32) ^ x[3] ^ key[1], a & mask]
        key = [(key[0] + 0x9E3779B9) & mask, (key[1] + 0xBB67AE85) & mask]
    return x


def test_reference_is_philox():
    """The published known answer of Philox-4x32-10 for a counter and key of zeros."""
    assert philox([0] * 4, [0] * 2) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]


@pytest.mark.parametrize("count", [1, 63, 64, 65, 300])
@pytest.mark.parametrize("seed", [0, 5, 2**32 + 3, 2**62 + 12345])
def test_positions_are_decided_by_philox(count, seed):
    p = 0.3
    expected = []
    for position in range(count):
        block, within = divmod(position, 64)
        word, lane = divmod(within, 16)
        random = philox([16 * block + lane, 0, 0, 0], [seed % 2**32, seed >> 32])[word]
        expected.append(random >= math.floor(p * 2**32))
    assert kept(count, seed, p).tolist() == expected


@pytest.mark.parametrize("dtype", DTYPES)
def test_values_are_kept_and_scaled_or_zero(dtype):
    x = torch.randn(3, 5, 77).to(dtype)
    y = DROPOUT(x, seed_of(3), 0.25)
    keep = kept(x.numel(), 3, 0.25).view_as(x)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    assert y.dtype == dtype
    assert torch.equal(y, (x.to(wide) * (keep.to(wide) * (1 / 0.75))).to(dtype))


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9])
def test_rate_and_mean(p):
    count = 1_000_000
    rate = 1 - kept(count, 11, p).double().mean().item()
    assert abs(rate - p) <= 5 * math.sqrt(p * (1 - p) / count)
    torch.manual_seed(0)
    assert dropout(torch.ones(count), p).mean().item() == pytest.approx(1, abs=0.02)


def test_positions_and_seeds_are_independent():
    """Neighbours, the same position under two seeds, and seeds that differ in one bit."""
    count, p = 400_000, 0.5
    signs = 2 * kept(count, 7, p).double() - 1
    limit = 5 / math.sqrt(count)
    for distance in (1, 2, 3, 4, 8, 16, 32, 64, 256, 2048):
        assert abs((signs[distance:] * signs[:-distance]).mean().item()) < limit, distance
    for other in (8, 6, 7 + 2**31, 7 + 2**32, 7 + 2**40):
        assert abs((signs * (2 * kept(count, other, p).double() - 1)).mean().item()) < limit
    runs = signs.view(-1, 4).gt(0).double() @ torch.tensor([8.0, 4, 2, 1], dtype=torch.float64)
    found = torch.bincount(runs.long(), minlength=16).double()
    expected = count / 4 / 16
    chi_squared = ((found - expected) ** 2 / expected).sum().item()
    assert chi_squared < 45  # 15 degrees of freedom: exceeded with probability 8e-5


def test_seed_of_torch_decides():
    x = torch.ones(1000)
    torch.manual_seed(1)
    first, second = dropout(x, 0.5), dropout(x, 0.5)
    torch.manual_seed(1)
    assert torch.equal(dropout(x, 0.5), first)
    assert not torch.equal(first, second)


def test_threads_do_not_matter():
    x, threads = torch.randn(3, 1000, 257), torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(DROPOUT(x, seed_of(9), 0.1))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


@pytest.mark.parametrize("limit", ["avx2", "sse2"])
def test_instruction_set_does_not_matter(limit):
    code = (
        "import torch, ms_detr.ops; torch.manual_seed(0); x = torch.randn(1001)\n"
        "y = torch.ops.ms_detr.dropout(x, torch.tensor(2**40 + 1), 0.3)\n"
        "print(y.double().sum().item(), (y == 0).nonzero().sum().item())"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    outputs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**environment, **more}, capture_output=True, text=True, check=True,
        ).stdout
        for more in ({}, {"MS_DETR_CPU_CAPABILITY": limit})
    ]  # fmt: skip
    assert outputs[0] == outputs[1] != ""


def test_gradient_is_that_of_the_same_mask():
    x = torch.randn(4, 333, requires_grad=True)
    grad = torch.randn(4, 333)
    y = DROPOUT(x, seed_of(21), 0.1)
    y.backward(grad)
    factor = kept(x.numel(), 21, 0.1).view_as(x).float() * (1 / 0.9)
    assert torch.equal(x.grad, grad * factor)
    assert torch.equal(y, x * factor)


def test_gradcheck():
    x = torch.randn(3, 50, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: DROPOUT(x, seed_of(4), 0.4), x)
    assert torch.autograd.gradgradcheck(lambda x: DROPOUT(x, seed_of(4), 0.4), x)


def test_nothing_of_the_input_is_kept():
    saved = []
    x = torch.randn(1000, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        dropout(x, 0.1)
    assert [tensor.numel() for tensor in saved] == [1]  # the seed


def test_not_contiguous_and_empty():
    x = torch.randn(6, 5, 7).transpose(0, 2)
    assert torch.equal(DROPOUT(x, seed_of(1), 0.5), DROPOUT(x.contiguous(), seed_of(1), 0.5))
    empty = torch.zeros(0, 3, requires_grad=True)
    dropout(empty, 0.5).sum().backward()
    assert empty.grad.shape == (0, 3)


def test_in_place_is_the_same():
    x = torch.randn(100, 7)
    torch.manual_seed(3)
    expected = dropout(x, 0.2)
    torch.manual_seed(3)
    dropout_(x, 0.2)
    assert torch.equal(x, expected)
    with pytest.raises(ValueError, match="must be contiguous"):
        dropout_(x.t(), 0.2)


def test_not_finite_shows_also_where_it_is_dropped():
    y = DROPOUT(torch.full((200,), math.nan), seed_of(1), 0.9)
    assert y.isnan().all()


def test_certain_and_impossible():
    x = torch.randn(50)
    assert torch.equal(dropout(x, 0.0), x)
    assert torch.equal(dropout(x, 1.0), F.dropout(x, 1.0))


@pytest.mark.parametrize("p", [-0.1, 1.5])
def test_impossible_probability(p):
    with pytest.raises(ValueError, match=r"p must be in \[0, 1\)"):
        dropout(torch.ones(3), p)


def test_wrong_arguments():
    with pytest.raises(ValueError, match="x must be float32"):
        dropout(torch.ones(3, dtype=torch.int32), 0.5)
    with pytest.raises(ValueError, match="seed must be one int64"):
        DROPOUT(torch.ones(3), torch.tensor(1.0), 0.5)


def test_opcheck():
    x = torch.randn(4, 5, requires_grad=True)
    torch.library.opcheck(DROPOUT.default, (x, seed_of(1), 0.5))
    torch.library.opcheck(torch.ops.ms_detr.dropout_.default, (x.detach(), seed_of(1), 0.5))
