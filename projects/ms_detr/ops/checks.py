"""Checks of the arguments of multi-scale deformable attention (letters: see ms_deform_attn.py)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

VALUE_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def wide_dtype(value: Tensor) -> torch.dtype:
    """Dtype of locations, weights and all sums for this value: float32, or float64 for a float64
    value."""
    return torch.float64 if value.dtype == torch.float64 else torch.float32


def flatten_shapes(shapes: Sequence[tuple[int, int]] | Tensor) -> list[int]:
    """((h0, w0), (h1, w1), ..) as [h0, w0, h1, w1, ..].

    Raises:
        ValueError: not a sequence of pairs of positive integers.
    """
    if isinstance(shapes, Tensor):
        raise ValueError(
            "ms_deform_attn: shapes must be Python integers, got a tensor; keep the sizes of the "
            "levels as a tuple of (height, width), so that the host need not wait for the device"
        )
    flat: list[int] = []
    for pair in shapes:
        if (
            isinstance(pair, (int, float))
            or len(pair) != 2
            or not all(isinstance(side, (int, torch.SymInt)) for side in pair)
        ):
            raise ValueError(
                f"ms_deform_attn: shapes must hold (height, width) integers per level, got {shapes}"
            )
        if pair[0] < 1 or pair[1] < 1:
            raise ValueError(
                f"ms_deform_attn: each height and width in shapes must be at least 1, got {shapes}"
            )
        flat.extend(pair)
    if not flat:
        raise ValueError("ms_deform_attn: shapes is empty; at least one level is needed")
    return flat


def check_inputs(
    value: Tensor,
    sizes: Sequence[int],
    locations: Tensor,
    weights: Tensor,
    *,
    any_float: bool = False,
) -> None:
    """Check ranks, shapes, dtypes and devices against each other.

    Args:
        value: (B, S, H, c).
        sizes: h0, w0, h1, w1, ..
        locations: (B, N, H, L, Z, 2).
        weights: (B, N, H, L, Z).
        any_float: accept locations and weights of any floating dtype (autocast will convert them).

    Raises:
        ValueError: names the argument, what it must be and what it is.
    """
    tokens = sum(height * width for height, width in zip(sizes[0::2], sizes[1::2]))
    levels = len(sizes) // 2
    if value.dim() != 4 or value.shape[1] != tokens or value.shape[2] < 1 or value.shape[3] < 1:
        raise ValueError(
            f"ms_deform_attn: value must be (batch, {tokens} tokens, heads, channels) for "
            f"the shapes {list(sizes)}, got {tuple(value.shape)}"
        )
    batch, _, heads, _ = value.shape
    if (
        locations.dim() != 6
        or locations.shape[0] != batch
        or locations.shape[2] != heads
        or locations.shape[3] != levels
        or locations.shape[4] < 1
        or locations.shape[5] != 2
    ):
        raise ValueError(
            f"ms_deform_attn: locations must be ({batch}, queries, {heads} heads, {levels} levels, "
            f"points, 2) for the value {tuple(value.shape)} and {levels} levels, "
            f"got {tuple(locations.shape)}"
        )
    if weights.shape != locations.shape[:5]:
        raise ValueError(
            "ms_deform_attn: weights must have the shape of locations without the last dimension, "
            f"{tuple(locations.shape[:5])}, got {tuple(weights.shape)}"
        )
    _check_dtypes(value, locations, weights, any_float)
    if not value.device == locations.device == weights.device:
        raise ValueError(
            "ms_deform_attn: all tensors must be on one device, got "
            f"value {tuple(value.shape)} on {value.device}, "
            f"locations {tuple(locations.shape)} on {locations.device}, "
            f"weights {tuple(weights.shape)} on {weights.device}"
        )


def _check_dtypes(value: Tensor, locations: Tensor, weights: Tensor, any_float: bool) -> None:
    if value.dtype not in VALUE_DTYPES:
        raise ValueError(
            "ms_deform_attn: value must be float32, float64, float16 or bfloat16, "
            f"got {value.dtype} {tuple(value.shape)}"
        )
    wanted = wide_dtype(value)
    for name, tensor in (("locations", locations), ("weights", weights)):
        fits = tensor.is_floating_point() if any_float else tensor.dtype == wanted
        if not fits:
            raise ValueError(
                f"ms_deform_attn: {name} {tuple(tensor.shape)} must be {wanted} with a value of "
                f"{value.dtype}, got {tensor.dtype}; convert with .to({wanted})"
            )
