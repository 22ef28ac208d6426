"""Multi-scale deformable attention by ``grid_sample``, level by level.

One level at a time, so that the largest temporary holds the sampled points of one level. The
convention of ``grid_sample`` (``align_corners=False``, zeros outside) is that of the operator.
Arguments as in ms_deform_attn.py, checked before, with ``sizes`` = h0, w0, h1, w1, ..; D = B * H.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ms_detr.ops.checks import wide_dtype


class _Level(NamedTuple):
    """One level as ``grid_sample`` reads it."""

    number: int
    tokens: slice  # of the S tokens
    map: Tensor  # (D, c, h, w)
    grid: Tensor  # (D, N, Z, 2) in [-1, 1], clamped to [-3, 3]
    weights: Tensor  # (D, 1, N, Z)
    bad: Tensor  # (D, N, Z) bool: the location is not finite


def forward(value: Tensor, sizes: Sequence[int], locations: Tensor, weights: Tensor) -> Tensor:
    """Output (B, N, H * c) of the operator."""
    batch, _, heads, channels = value.shape
    queries = locations.shape[1]
    output = weights.new_zeros((batch * heads, channels, queries))
    if output.numel() > 0:
        for level in _levels(value, sizes, locations, weights):
            sampled = _sample(level)
            # A location that is not finite reads as zero or as any pixel; it must not go unnoticed.
            seen = level.weights.masked_fill(level.bad.unsqueeze(1), torch.nan)
            output += sampled.mul_(seen).sum(-1)
    output = output.view(batch, heads, channels, queries).permute(0, 3, 1, 2)
    return output.reshape(batch, queries, heads * channels).to(value.dtype)


def backward(
    grad: Tensor, value: Tensor, sizes: Sequence[int], locations: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of value, locations and weights, given that of the output."""
    batch, _, heads, channels = value.shape
    queries, points = locations.shape[1], locations.shape[4]
    grad_value = value.new_zeros(value.shape)
    grad_locations = locations.new_zeros(locations.shape)
    grad_weights = weights.new_zeros(weights.shape)
    if grad.numel() == 0:
        return grad_value, grad_locations, grad_weights
    folded = grad.view(batch, queries, heads, channels).permute(0, 2, 3, 1)
    folded = folded.reshape(batch * heads, channels, queries, 1).to(wide_dtype(value))
    for level in _levels(value, sizes, locations, weights):
        of_weights = _sample(level).mul_(folded).sum(1).masked_fill_(level.bad, torch.nan)
        of_map, of_grid = torch.ops.aten.grid_sampler_2d_backward(
            folded * level.weights, level.map, level.grid, 0, 0, False, [True, True]
        )
        of_grid.mul_(2).masked_fill_(level.bad.unsqueeze(-1), torch.nan)  # grid = 2 * location - 1
        of_map = of_map.view(batch, heads, channels, -1).permute(0, 3, 1, 2)
        grad_value[:, level.tokens] = of_map.to(value.dtype)
        at_level = (slice(None), slice(None), slice(None), level.number)
        grad_locations[at_level] = of_grid.view(batch, heads, queries, points, 2).transpose(1, 2)
        grad_weights[at_level] = of_weights.view(batch, heads, queries, points).transpose(1, 2)
    return grad_value, grad_locations, grad_weights


def _levels(
    value: Tensor, sizes: Sequence[int], locations: Tensor, weights: Tensor
) -> Iterator[_Level]:
    dtype = wide_dtype(value)
    start = 0
    for number, (height, width) in enumerate(zip(sizes[0::2], sizes[1::2])):
        tokens = slice(start, start + height * width)
        start += height * width
        tokens_BHcS = value[:, tokens].permute(0, 2, 3, 1)
        location = locations[:, :, :, number].transpose(1, 2).flatten(0, 1)
        yield _Level(
            number=number,
            tokens=tokens,
            map=tokens_BHcS.reshape(-1, value.shape[3], height, width).to(dtype),
            # Everything beyond [-3, 3] lies outside even of a level of one pixel, as -3 and 3 do;
            # clamped, huge numbers cannot overflow when they are converted to integers.
            grid=(2 * location - 1).clamp(-3, 3),
            weights=weights[:, :, :, number].transpose(1, 2).flatten(0, 1).unsqueeze(1),
            bad=~torch.isfinite(location).all(-1),
        )


def _sample(level: _Level) -> Tensor:
    """(D, c, N, Z), bilinear."""
    return F.grid_sample(
        level.map, level.grid, mode="bilinear", padding_mode="zeros", align_corners=False
    )
