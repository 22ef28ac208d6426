"""The feed-forward that keeps its hidden layer once, against the plain form."""

from __future__ import annotations

import copy
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ms_detr.layers import FeedForward, chunked_feed_forward


class PlainFeedForward(nn.Module):
    """By the definition, on the parameters of ours."""

    def __init__(self, ours: FeedForward):
        super().__init__()
        self.ours = ours

    def forward(self, x):
        ours = self.ours
        return ours.norm(x + ours.linear2(F.relu(ours.linear1(x))))


def gradients(layer, x, autocast=None):
    x = x.clone().requires_grad_()
    layer.zero_grad()
    with torch.autocast("cpu", dtype=autocast, enabled=autocast is not None):
        y = layer(x)
    (y.float() * torch.linspace(-1, 1, y.numel()).view_as(y)).sum().backward()
    return [y.detach(), x.grad, *(p.grad for p in layer.parameters())]


@pytest.fixture
def small_chunks(monkeypatch):
    """Three rows at a time for a hidden layer of 24."""
    # By its name: the package has a function of the same name as the module.
    monkeypatch.setattr(sys.modules[chunked_feed_forward.__module__], "_CPU_CHUNK", 3 * 24)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
@pytest.mark.parametrize("shape", [(2, 5, 8), (7, 8), (1, 1, 8), (0, 4, 8)])
def test_same_as_plain(dtype, limit, shape):
    torch.manual_seed(0)
    ours = FeedForward(8, 24, 0.0).to(dtype)
    x = torch.randn(shape, dtype=dtype)
    for one, other in zip(gradients(ours, x), gradients(PlainFeedForward(ours), x)):
        assert one.dtype == other.dtype and one.shape == other.shape
        torch.testing.assert_close(one, other, rtol=limit, atol=limit)


@pytest.mark.usefixtures("small_chunks")
def test_not_contiguous():
    ours = FeedForward(8, 24, 0.0).double()
    x = torch.randn(8, 5, 2, dtype=torch.float64).transpose(0, 2)
    for one, other in zip(gradients(ours, x), gradients(ours, x.contiguous())):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(dtype):
    """The output is of autocast's dtype; gradients keep that of the weights, and are as exact."""
    torch.manual_seed(0)
    ours = FeedForward(8, 24, 0.0)
    x = torch.randn(3, 40, 8)
    exact = gradients(ours, x)
    plain = gradients(PlainFeedForward(ours), x, dtype)
    for found, expected, truth in zip(gradients(ours, x, dtype), plain, exact):
        assert found.dtype == expected.dtype
        error, usual = ((t.float() - truth).abs().max().item() for t in (found, expected))
        assert error <= 1.5 * usual + 1e-6


def test_backward_inside_of_autocast():
    ours, x = FeedForward(8, 24, 0.0), torch.randn(3, 4, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours(x).sum().backward()
    inside = [p.grad.clone() for p in ours.parameters()]
    ours.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = ours(x).sum()
    loss.backward()
    assert all(torch.equal(one, p.grad) for one, p in zip(inside, ours.parameters()))


def test_shapes_alone():
    ours = FeedForward(8, 24, 0.1).to("meta")
    y = ours(torch.zeros(2, 3, 8, device="meta"))
    y.sum().backward()
    assert y.shape == (2, 3, 8) and ours.linear1.weight.grad.shape == (24, 8)


def test_bfloat16_module():
    ours = FeedForward(8, 24, 0.0).bfloat16()
    wide = copy.deepcopy(ours).float()
    x = torch.randn(3, 4, 8).bfloat16()
    for one, other in zip(gradients(ours, x), gradients(wide, x.float())):
        assert one.dtype == torch.bfloat16
        torch.testing.assert_close(one.float(), other, rtol=0.1, atol=0.1)


@pytest.mark.usefixtures("small_chunks")
def test_gradcheck_with_dropout():
    """The mask that the gradients assume is the one of the forward pass."""
    torch.manual_seed(0)
    first, second = nn.Linear(8, 24).double(), nn.Linear(24, 6).double()
    x = torch.randn(2, 5, 8, dtype=torch.float64, requires_grad=True)
    inputs = (x, first.weight, first.bias, second.weight, second.bias)

    def run(*inputs):
        torch.manual_seed(5)
        return chunked_feed_forward(*inputs, 0.3)

    assert torch.autograd.gradcheck(run, inputs)


def test_dropout_reaches_the_hidden_layer():
    torch.manual_seed(0)
    x, eye = torch.ones(1000, 30), torch.eye(30)
    y = chunked_feed_forward(x, eye, torch.zeros(30), eye, torch.zeros(30), 0.25)
    assert y.unique().tolist() == pytest.approx([0.0, 1 / 0.75])
    assert (y == 0).float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert not (y == y[0]).all(), "every row has a mask of its own"
    ours = FeedForward(8, 24, 0.5).eval()
    assert torch.equal(ours(x[:, :8]), ours(x[:, :8]))


def test_everything_dropped():
    weight, bias = torch.randn(4, 4, requires_grad=True), torch.randn(4)
    y = chunked_feed_forward(torch.randn(3, 4), weight, bias, torch.randn(2, 4), torch.ones(2), 1.0)
    assert torch.equal(y, torch.ones(3, 2))
    y.sum().backward()
    assert torch.equal(weight.grad, torch.zeros(4, 4))


def test_hidden_layer_is_kept_once():
    ours, x = FeedForward(8, 64, 0.1), torch.randn(2, 50, 8)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        ours(x)
    assert sum(t.numel() >= 2 * 50 * 64 for t in saved) == 1


def test_not_finite_shows():
    ours, x = FeedForward(8, 24, 0.5), torch.randn(4, 8)
    x[2] = float("nan")
    _, of_x, *of_weights = gradients(ours, x)
    assert of_x[2].isnan().all() and not of_x[[0, 1, 3]].isnan().any()
    assert all(grad.isnan().any() for grad in of_weights[:3])


def test_other_activations_and_inference_are_plain():
    torch.manual_seed(0)
    ours = FeedForward(8, 24, 0.0, nn.PReLU())
    x = torch.randn(4, 8)
    expected = ours.norm(x + ours.linear2(ours.activation(ours.linear1(x))))
    torch.testing.assert_close(ours(x), expected)
    relu = FeedForward(8, 24, 0.0)
    with torch.no_grad():
        without = relu(x)
    torch.testing.assert_close(relu(x), without)
