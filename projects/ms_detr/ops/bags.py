"""Multi-scale deformable attention by ``embedding_bag``: a query and head is a bag of pixels.

Each sampling point reads four pixels, so the output of a query and head is the weighted sum of
4 * L * Z rows of the value, which ``embedding_bag`` adds up without writing the rows anywhere. Rows
and weights are made for a part of the queries at a time, small enough to stay in the cache.
Arguments as in ms_deform_attn.py, checked before, with ``sizes`` = h0, w0, h1, w1, ..; here K is
the queries of one part.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ms_detr.ops.checks import wide_dtype

_ENTRIES = 1 << 20  # rows read by one part; measured: the best for encoders, even for decoders
_SUM = 0  # mode of embedding_bag
_NO_PADDING = -1


@dataclass(frozen=True)
class _Levels:
    """What is the same for all points: sizes (L, 1) in the dtype of locations, first rows."""

    width: Tensor
    height: Tensor
    row_width: Tensor
    first: Tensor  # token of the level's first pixel
    head: Tensor  # (H, 1, 1)


@dataclass(frozen=True)
class _Points:
    """Corners of the points of K queries; corner 2 * j + i is column i and row j of its cell.

    Attributes:
        rows: (K * H, 4 * L * Z), of the value seen as (S * H, c).
        inside_x, inside_y: per column and per row of the cell, (K, H, L, Z): 1 within the map.
        share_x, share_y: the bilinear shares, 0 outside.
        bad: the location is not finite.
    """

    rows: Tensor
    inside_x: tuple[Tensor, Tensor]
    inside_y: tuple[Tensor, Tensor]
    share_x: tuple[Tensor, Tensor]
    share_y: tuple[Tensor, Tensor]
    bad: Tensor

    def spread(self, weights: Tensor) -> Tensor:
        """(K * H, 4 * L * Z): weights (K, H, L, Z) of the points as weights of the rows."""
        rows = [weights * share for share in self.share_y]
        corners = [row * share for row in rows for share in self.share_x]
        return torch.stack(corners, 2).view(self.rows.shape)


def forward(value: Tensor, sizes: Sequence[int], locations: Tensor, weights: Tensor) -> Tensor:
    """Output (B, N, H * c) of the operator."""
    batch, tokens, heads, channels = value.shape
    queries = locations.shape[1]
    output = value.new_empty((batch, queries, heads * channels))
    levels = _levels(sizes, heads, locations, tokens)
    for image in range(batch):
        table = value[image].reshape(tokens * heads, channels).to(wide_dtype(value))
        for part in _parts(locations):
            points = _points(levels, locations[image, part])
            # A location that is not finite has no corners; it must not go unnoticed.
            seen = weights[image, part].masked_fill(points.bad, torch.nan)
            sums = F.embedding_bag(
                points.rows, table, mode="sum", per_sample_weights=points.spread(seen)
            )
            output[image, part] = sums.view(-1, heads * channels)
    return output


def backward(
    grad: Tensor, value: Tensor, sizes: Sequence[int], locations: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of value, locations and weights, given that of the output."""
    batch, tokens, heads, channels = value.shape
    grad_value = value.new_zeros(value.shape)
    grad_locations = locations.new_zeros(locations.shape)
    grad_weights = weights.new_zeros(weights.shape)
    levels = _levels(sizes, heads, locations, tokens)
    for image in range(batch):
        table = value[image].reshape(tokens * heads, channels).to(wide_dtype(value))
        of_table = None
        for part in _parts(locations):
            points = _points(levels, locations[image, part])
            folded = grad[image, part].reshape(-1, channels).to(table.dtype)
            at = (image, part)
            of_rows, products = _bag_gradients(folded, table, points, weights[at])
            of_table = of_rows if of_table is None else of_table.add_(of_rows)
            grad_locations[at] = _of_locations(points, products, weights[at], levels)
            grad_weights[at] = _of_weights(points, products)
        if of_table is not None:
            grad_value[image] = of_table.view(tokens, heads, channels)
    return grad_value, grad_locations, grad_weights


def _bag_gradients(
    grad: Tensor, table: Tensor, points: _Points, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradient of the table, and the product of every row with its bag's gradient, as
    (4, K, H, L, Z)."""
    rows = points.rows.flatten()
    bags, size = points.rows.shape
    first = torch.arange(0, bags * size, size, dtype=rows.dtype, device=rows.device)
    bag = torch.arange(bags, dtype=rows.dtype, device=rows.device).repeat_interleave(size)
    shares = points.spread(weights.masked_fill(points.bad, 0.0)).flatten()
    of_table = torch.ops.aten._embedding_bag_dense_backward(
        grad, rows, bag, first, first, table.shape[0], False, _SUM, shares, _NO_PADDING
    )
    products = torch.ops.aten._embedding_bag_per_sample_weights_backward(
        grad, table, rows, first, bag, _SUM, _NO_PADDING
    )
    queries, heads, levels, count = points.bad.shape
    return of_table, products.view(queries, heads, 4, levels, count).movedim(2, 0)


def _of_weights(points: _Points, products: Tensor) -> Tensor:
    (left, right), (top, bottom) = points.share_x, points.share_y
    upper = left * products[0] + right * products[1]
    lower = left * products[2] + right * products[3]
    return (top * upper + bottom * lower).masked_fill_(points.bad, torch.nan)


def _of_locations(points: _Points, products: Tensor, weights: Tensor, levels: _Levels) -> Tensor:
    """A share grows by one per pixel on the right and below, and shrinks so on the left and above;
    what lies outside of the map does neither."""
    (left, right), (top, bottom) = points.inside_x, points.inside_y
    share_x, share_y = points.share_x, points.share_y
    along_x = share_y[0] * (right * products[1] - left * products[0])
    along_x += share_y[1] * (right * products[3] - left * products[2])
    along_y = share_x[0] * (bottom * products[2] - top * products[0])
    along_y += share_x[1] * (bottom * products[3] - top * products[1])
    both = torch.stack([along_x * levels.width, along_y * levels.height], -1)
    return both.mul_(weights.unsqueeze(-1)).masked_fill_(points.bad.unsqueeze(-1), torch.nan)


def _parts(locations: Tensor) -> Iterator[slice]:
    _, queries, heads, levels, points, _ = locations.shape
    step = max(1, _ENTRIES // (4 * heads * levels * points))
    for first in range(0, queries, step):
        yield slice(first, first + step)


def _levels(sizes: Sequence[int], heads: int, locations: Tensor, tokens: int) -> _Levels:
    heights, widths = sizes[0::2], sizes[1::2]
    integer = torch.int32 if tokens * heads < 2**31 else torch.int64

    def column(numbers: Sequence[int], dtype: torch.dtype) -> Tensor:
        return torch.tensor(numbers, dtype=dtype, device=locations.device).unsqueeze(-1)

    firsts = [0]
    for height, width in zip(heights[:-1], widths[:-1]):
        firsts.append(firsts[-1] + height * width)
    return _Levels(
        width=column(widths, locations.dtype),
        height=column(heights, locations.dtype),
        row_width=column(widths, integer),
        first=column(firsts, integer),
        head=column(range(heads), integer).unsqueeze(-1),
    )


def _points(levels: _Levels, locations: Tensor) -> _Points:
    """Corners of the points at (K, H, L, Z, 2)."""
    # -1 and 2 lie outside of any map, as everything beyond does; clamped, huge numbers cannot
    # overflow when they are converted to integers.
    x, y = locations.clamp(-1, 2).unbind(-1)
    columns, inside_x, share_x = _along(x, levels.width, levels.row_width.dtype)
    rows, inside_y, share_y = _along(y, levels.height, levels.row_width.dtype)
    starts = [row * levels.row_width + levels.first for row in rows]
    heads = levels.head.shape[0]
    corners = [(s + column) * heads + levels.head for s in starts for column in columns]
    stacked = torch.stack(corners, 2)
    return _Points(
        rows=stacked.view(stacked.shape[0] * heads, -1),
        inside_x=inside_x,
        inside_y=inside_y,
        share_x=share_x,
        share_y=share_y,
        bad=~torch.isfinite(locations).all(-1),
    )


_Pair = tuple[Tensor, Tensor]


def _along(place: Tensor, size: Tensor, integer: torch.dtype) -> tuple[_Pair, _Pair, _Pair]:
    """Index, insideness and share of the two pixels around a place, along one axis."""
    pixel = (place * size - 0.5).nan_to_num(-2.0)
    before = pixel.floor()
    after = before + 1
    last = size - 1
    inside = tuple(((p >= 0) & (p <= last)).to(place.dtype) for p in (before, after))
    share = ((after - pixel) * inside[0], (pixel - before) * inside[1])
    index = tuple(p.clamp(min=0).minimum(last).to(integer) for p in (before, after))
    return index, inside, share  # type: ignore[return-value]
