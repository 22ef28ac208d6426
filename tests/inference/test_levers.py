"""The parts of a prepared detector against what they stand for."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from torch import nn

from ms_detr.inference.batch_norm import fold_batch_norm
from ms_detr.inference.chunks import CHUNK, by_chunks
from ms_detr.inference.feed_forward import ChunkedFeedForward
from ms_detr.inference.linear import PointwiseLinear, dilate_pixel_kernels
from ms_detr.inference.replace import replace_modules
from ms_detr.layers import FeedForward


def with_statistics(norm: nn.Module) -> nn.Module:
    """The norm with numbers that do something."""
    for name in ("weight", "bias", "running_mean", "running_var"):
        values = getattr(norm, name)
        if values is not None:
            values.data.copy_(torch.rand(values.shape) + 0.5)
    return norm


NORMS = {
    "frozen": lambda: FrozenBatchNorm2d(6, eps=0.1),
    "batch": lambda: nn.BatchNorm2d(6),
    "not affine": lambda: nn.BatchNorm2d(6, affine=False),
}


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kind", NORMS)
def test_folded_norm(kind: str, bias: bool) -> None:
    torch.manual_seed(0)
    norm = with_statistics(NORMS[kind]()).eval()
    module = nn.Sequential(Conv2d(4, 6, 3, bias=bias, norm=norm, activation=F.relu))
    pair = nn.Sequential(nn.Conv2d(4, 6, 3, bias=bias), with_statistics(NORMS[kind]()).eval())
    x = torch.randn(2, 4, 9, 8)
    with torch.no_grad():
        for sequence in (module, pair):
            wanted = sequence(x)
            assert fold_batch_norm(sequence) == 1
            torch.testing.assert_close(sequence(x), wanted, rtol=1e-5, atol=1e-5)
            assert not any(isinstance(m, type(norm)) for m in sequence.modules())
            assert fold_batch_norm(sequence) == 0


@pytest.mark.parametrize(
    "norm",
    [nn.BatchNorm2d(6, track_running_stats=False), nn.GroupNorm(2, 6), nn.InstanceNorm2d(6), None],
    ids=["statistics of the batch", "group", "instance", "none"],
)
def test_norms_that_depend_on_the_image_are_not_folded(norm: nn.Module | None) -> None:
    convolution = Conv2d(4, 6, 3, norm=norm)
    rest = [] if norm is None else [norm]
    assert (
        fold_batch_norm(nn.Sequential(convolution, nn.Sequential(nn.Conv2d(6, 6, 1), *rest))) == 0
    )
    assert convolution.norm is norm


@pytest.mark.parametrize("rows", [0, 1, 7, 8, 9, 24, 25])
def test_chunks_are_joined_in_order(rows: int) -> None:
    x = torch.randn(rows, 3)
    seen = []

    def work(part: torch.Tensor, other: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(len(part))
        return part.sum(1), torch.stack([other, part], 1).double()

    sums, pairs = by_chunks(work, x, -x, size=8)
    assert torch.equal(sums, x.sum(1)) and torch.equal(pairs, torch.stack([-x, x], 1).double())
    assert sum(seen) == rows and max(seen) <= 8


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shape", [(300, 8), (2, 5, 8), (1, 8), (8,), (0, 8), (2, 0, 8)])
def test_pointwise_linear(shape: tuple[int, ...], threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for bias in (True, False):
            linear = nn.Linear(8, 5, bias=bias)
            x = torch.randn(shape)
            found = PointwiseLinear(linear)(x)
            torch.testing.assert_close(found, linear(x), rtol=1e-5, atol=1e-5)
    finally:
        torch.set_num_threads(before)


def test_pointwise_linear_of_tokens_that_do_not_lie_side_by_side() -> None:
    linear = nn.Linear(8, 5)
    x = torch.randn(8, 6, 4).permute(2, 1, 0)
    torch.testing.assert_close(PointwiseLinear(linear)(x), linear(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("stride, padding", [(1, 0), (2, 0), (1, 1)])
def test_dilated_pixels(stride: int, padding: int) -> None:
    convolutions = nn.Sequential(nn.Conv2d(4, 6, 1, stride, padding), nn.Conv2d(6, 4, 3))
    x = torch.randn(1, 4, 9, 8)
    wanted = convolutions(x)
    dilate_pixel_kernels(convolutions)
    assert convolutions[1].dilation == (1, 1)
    torch.testing.assert_close(convolutions(x), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("activation", [None, nn.PReLU(), nn.ReLU()])
def test_feed_forward(activation: nn.Module | None) -> None:
    layer = FeedForward(8, 16, 0.5, activation).eval()
    x = torch.randn(2, CHUNK + 3, 8)
    before = x.clone()
    torch.testing.assert_close(ChunkedFeedForward(layer)(x), layer(x), rtol=1e-5, atol=1e-5)
    assert torch.equal(x, before)


def test_replaced_modules_are_of_the_very_class_and_stay_shared() -> None:
    class Special(nn.Linear):
        pass

    shared = nn.Linear(2, 2)
    root = nn.ModuleDict({"a": shared, "b": nn.Sequential(shared, Special(2, 2))})
    replace_modules(root, nn.Linear, PointwiseLinear)
    assert type(root["a"]) is PointwiseLinear and root["b"][0] is root["a"]
    assert type(root["b"][1]) is Special
