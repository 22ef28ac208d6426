"""Multi-scale deformable attention as others do it, for tools/benchmark_op.py; and its inputs.

The three forms are written from the definition, with differentiable PyTorch operations only;
nothing of the package's operators is used, so they check results too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

HEADS, CHANNELS, POINTS = 8, 32, 4


def pyramid(height: int, width: int) -> tuple[tuple[int, int], ...]:
    """Sizes of the four levels, strides 8 to 64, of an image."""
    return tuple((math.ceil(height / s), math.ceil(width / s)) for s in (8, 16, 32, 64))


@dataclass(frozen=True)
class Problem:
    """Inputs of one call, plain and fused, and a gradient of its output; see ms_detr.ops."""

    shapes: tuple[tuple[int, int], ...]
    value: Tensor
    reference: Tensor
    offsets: Tensor
    logits: Tensor
    locations: Tensor
    weights: Tensor
    grad: Tensor


def problem(
    height: int,
    width: int,
    queries: int | None,
    *,
    images: int = 2,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Problem:
    """Sampling as at the start of a training: head h looks into direction h in growing steps.

    Args:
        height, width: of the image.
        queries: of a decoder, with random reference boxes; None for an encoder: one per token,
            with its centre as reference point.
        images, device, dtype: dtype is that of the value.
    """
    shapes, generator = pyramid(height, width), torch.Generator().manual_seed(0)
    tokens, levels = sum(h * w for h, w in shapes), len(shapes)
    if queries is None:
        reference = torch.cat([_centers(h, w) for h, w in shapes]).expand(images, -1, -1)
    else:
        center = torch.rand(images, queries, 2, generator=generator)
        size = 0.05 + 0.3 * torch.rand(images, queries, 2, generator=generator)
        reference = torch.cat([center, size], -1)
    count = reference.shape[1]
    angle = torch.arange(HEADS) * (2 * math.pi / HEADS)
    direction = torch.stack([angle.cos(), angle.sin()], -1)
    direction = direction / direction.abs().amax(-1, keepdim=True)
    steps = direction[:, None, None] * torch.arange(1, POINTS + 1)[:, None]
    sampled = (images, count, HEADS, levels, POINTS)
    offsets = steps + torch.randn(*sampled, 2, generator=generator)
    logits = torch.randn(images, count, HEADS, levels * POINTS, generator=generator)
    reference = reference[:, :, None].repeat(1, 1, levels, 1)
    around = reference[:, :, None, :, None]
    if queries is None:
        cells = torch.tensor([(w, h) for h, w in shapes])
        locations = around + offsets / cells[:, None]
    else:
        locations = around[..., :2] + offsets * around[..., 2:] * (0.5 / POINTS)
    value = torch.randn(images, tokens, HEADS, CHANNELS, generator=generator)
    grad = torch.randn(images, count, HEADS * CHANNELS, generator=generator)
    return Problem(
        shapes=shapes,
        value=value.to(device, dtype),
        reference=reference.to(device),
        offsets=offsets.to(device),
        logits=logits.to(device),
        locations=locations.to(device),
        weights=logits.softmax(-1).view(sampled).to(device),
        grad=grad.to(device, dtype),
    )


def _centers(height: int, width: int) -> Tensor:
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return torch.stack([x.flatten() / width, y.flatten() / height], -1)


def _samples(p: Problem):
    """Per level: what grid_sample reads (B * H, c, N, Z), and the weights (B * H, 1, N, Z)."""
    images, _, heads, channels = p.value.shape
    grid = (2 * p.locations - 1).to(p.value.dtype)
    first = 0
    for level, (height, width) in enumerate(p.shapes):
        tokens = p.value[:, first : first + height * width]
        first += height * width
        image = tokens.permute(0, 2, 3, 1).reshape(images * heads, channels, height, width)
        at = grid[:, :, :, level].transpose(1, 2).flatten(0, 1)
        sampled = F.grid_sample(image, at, align_corners=False)
        weights = p.weights[:, :, :, level].transpose(1, 2).flatten(0, 1).unsqueeze(1)
        yield sampled, weights.to(p.value.dtype)


def _unfold(summed: Tensor, p: Problem) -> Tensor:
    images, _, heads, channels = p.value.shape
    return summed.view(images, heads * channels, -1).transpose(1, 2).contiguous()


def official(p: Problem) -> Tensor:
    """The algorithm of all public PyTorch code: sample level by level, stack, multiply, sum."""
    sampled, weights = zip(*_samples(p))
    product = torch.stack(sampled, -2).flatten(-2) * torch.stack(weights, -2).flatten(-2)
    return _unfold(product.sum(-1), p)


def per_level(p: Problem) -> Tensor:
    """The same summed up level by level, without the stack."""
    total = None
    for sampled, weights in _samples(p):
        part = (sampled * weights).sum(-1)
        total = part if total is None else total + part
    return _unfold(total, p)


def embedding_bag(p: Problem) -> Tensor:
    """All corners of all points as rows of one embedding_bag."""
    images, tokens, heads, channels = p.value.shape
    rows, shares, first = [], [], 0
    image = torch.arange(images, device=p.value.device).view(-1, 1, 1, 1)
    head = torch.arange(heads, device=p.value.device).view(-1, 1)
    for level, (height, width) in enumerate(p.shapes):
        x = p.locations[:, :, :, level, :, 0] * width - 0.5
        y = p.locations[:, :, :, level, :, 1] * height - 0.5
        left, top = x.detach().floor(), y.detach().floor()
        for column, share_x in ((left, left + 1 - x), (left + 1, x - left)):
            for row, share_y in ((top, top + 1 - y), (top + 1, y - top)):
                inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
                token = row.clamp(0, height - 1) * width + column.clamp(0, width - 1) + first
                rows.append((image * tokens + token.long()) * heads + head)
                shares.append(p.weights[:, :, :, level] * share_x * share_y * inside)
        first += height * width
    bags = torch.stack(rows, 3).flatten(0, 2).flatten(1)
    weights = torch.stack(shares, 3).flatten(0, 2).flatten(1)
    table = p.value.reshape(-1, channels)
    output = F.embedding_bag(bags, table, mode="sum", per_sample_weights=weights)
    return output.view(images, -1, heads * channels)
