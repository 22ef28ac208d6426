"""Checks of the operators' arguments (letters: see ms_deform_attn.py and fused_deform_attn.py)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

VALUE_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def wide_dtype(value: Tensor) -> torch.dtype:
    """Dtype of positions, weights and all sums for this value: float32, or float64 for a float64
    value."""
    return torch.float64 if value.dtype == torch.float64 else torch.float32


def flatten_shapes(
    shapes: Sequence[tuple[int, int]] | Tensor, operator: str = "ms_deform_attn"
) -> list[int]:
    """((h0, w0), (h1, w1), ..) as [h0, w0, h1, w1, ..].

    Raises:
        ValueError: not a sequence of pairs of positive integers.
    """
    if isinstance(shapes, Tensor):
        raise ValueError(
            f"{operator}: shapes must be Python integers, got a tensor; keep the sizes of the "
            "levels as a tuple of (height, width), so that the host need not wait for the device"
        )
    if not isinstance(shapes, (tuple, list)):
        raise ValueError(
            f"{operator}: shapes must hold (height, width) integers per level, got {shapes}"
        )
    flat: list[int] = []
    for pair in shapes:
        if (
            not isinstance(pair, (tuple, list))
            or len(pair) != 2
            or not all(isinstance(side, (int, torch.SymInt)) for side in pair)
        ):
            raise ValueError(
                f"{operator}: shapes must hold (height, width) integers per level, got {shapes}"
            )
        if pair[0] < 1 or pair[1] < 1:
            raise ValueError(
                f"{operator}: each height and width in shapes must be at least 1, got {shapes}"
            )
        flat.extend(pair)
    if not flat:
        raise ValueError(f"{operator}: shapes is empty; at least one level is needed")
    return flat


def require_tensors(operator: str, **arguments: object) -> None:
    """Check that the arguments are dense tensors.

    Raises:
        ValueError: names the argument and what it is.
    """
    for name, argument in arguments.items():
        if not isinstance(argument, Tensor):
            raise ValueError(
                f"{operator}: {name} must be a tensor, got a {type(argument).__name__}; convert it "
                "with torch.as_tensor"
            )
        if argument.layout != torch.strided:
            raise ValueError(
                f"{operator}: {name} must be a dense tensor, got one of {argument.layout}; convert "
                "it with .to_dense()"
            )


def check_inputs(
    value: Tensor,
    sizes: Sequence[int],
    locations: Tensor,
    weights: Tensor,
    *,
    any_float: bool = False,
) -> None:
    """Check ranks, shapes, dtypes and devices of ``ms_deform_attn`` against each other.

    Args:
        value: (B, S, H, c).
        sizes: h0, w0, h1, w1, ..
        locations: (B, N, H, L, Z, 2).
        weights: (B, N, H, L, Z).
        any_float: accept locations and weights of any floating dtype (autocast will convert them).

    Raises:
        ValueError: names the argument, what it must be and what it is.
    """
    operator, levels = "ms_deform_attn", len(sizes) // 2
    _check_value(operator, value, sizes)
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
    positions = {"locations": locations, "weights": weights}
    _check_dtypes(operator, value, positions, any_float)
    _check_devices(operator, {"value": value, **positions})


def check_fused_inputs(
    value: Tensor,
    sizes: Sequence[int],
    reference: Tensor,
    offsets: Tensor,
    logits: Tensor,
    *,
    any_float: bool = False,
) -> None:
    """Check ranks, shapes, dtypes and devices of ``fused_deform_attn`` against each other.

    Args:
        value: (B, S, H, c).
        sizes: h0, w0, h1, w1, ..
        reference: (B, N, L, 2 or 4).
        offsets: (B, N, H, L, Z, 2).
        logits: (B, N, H, L * Z).
        any_float: accept all but the value in any floating dtype (autocast will convert them).

    Raises:
        ValueError: names the argument, what it must be and what it is.
    """
    operator, levels = "fused_deform_attn", len(sizes) // 2
    _check_value(operator, value, sizes)
    batch, _, heads, _ = value.shape
    queries = _agreed_queries(reference, offsets, logits)
    if (
        offsets.dim() != 6
        or offsets.shape[:4] != (batch, queries, heads, levels)
        or offsets.shape[4] < 1
        or offsets.shape[5] != 2
    ):
        raise ValueError(
            f"fused_deform_attn: offsets must be ({batch}, {queries} queries, {heads} heads, "
            f"{levels} levels, points, 2) for the value {tuple(value.shape)} and the reference "
            f"{tuple(reference.shape)}, got {tuple(offsets.shape)}"
        )
    if (
        reference.dim() != 4
        or reference.shape[:3] != (batch, queries, levels)
        or reference.shape[3] not in (2, 4)
    ):
        raise ValueError(
            f"fused_deform_attn: reference must be ({batch}, {queries} queries, {levels} levels, "
            f"2 or 4) for the value {tuple(value.shape)} and the offsets {tuple(offsets.shape)}, "
            f"got {tuple(reference.shape)}"
        )
    wanted = (batch, queries, heads, levels * offsets.shape[4])
    if logits.shape != wanted:
        raise ValueError(
            f"fused_deform_attn: logits must be {wanted}, one per head and sampled point, for the "
            f"offsets {tuple(offsets.shape)}, got {tuple(logits.shape)}"
        )
    positions = {"reference": reference, "offsets": offsets, "logits": logits}
    _check_dtypes(operator, value, positions, any_float)
    _check_devices(operator, {"value": value, **positions})


def _agreed_queries(reference: Tensor, offsets: Tensor, logits: Tensor) -> int:
    """Number of queries on which two of the three agree: the third is wrong then."""
    tensors = (reference, offsets, logits)
    first, second, third = (t.shape[1] if t.dim() > 1 else -1 for t in tensors)
    if first != second and first != third and second != third:
        raise ValueError(
            "fused_deform_attn: reference, offsets and logits must have the same number of "
            f"queries, got {tuple(reference.shape)}, {tuple(offsets.shape)} and "
            f"{tuple(logits.shape)}"
        )
    return first if first == second else third


def check_grad(operator: str, grad: Tensor, value: Tensor, queries: int) -> None:
    """Check the gradient of an operator's output.

    Raises:
        ValueError: it does not have the shape (B, N, H * c) of the output.
    """
    batch, _, heads, channels = value.shape
    if grad.shape != (batch, queries, heads * channels):
        raise ValueError(
            f"{operator}: grad must be ({batch}, {queries}, {heads * channels}), "
            f"got {tuple(grad.shape)}"
        )


def _check_value(operator: str, value: Tensor, sizes: Sequence[int]) -> None:
    tokens = sum(height * width for height, width in zip(sizes[0::2], sizes[1::2]))
    if value.dim() != 4 or value.shape[1] != tokens or value.shape[2] < 1 or value.shape[3] < 1:
        raise ValueError(
            f"{operator}: value must be (batch, {tokens} tokens, heads, channels) for "
            f"the shapes {list(sizes)}, got {tuple(value.shape)}"
        )


def _check_devices(operator: str, tensors: dict[str, Tensor]) -> None:
    if len({tensor.device for tensor in tensors.values()}) > 1:
        each = ", ".join(f"{name} {tuple(x.shape)} on {x.device}" for name, x in tensors.items())
        raise ValueError(f"{operator}: all tensors must be on one device, got {each}")


def _check_dtypes(
    operator: str, value: Tensor, positions: dict[str, Tensor], any_float: bool
) -> None:
    if value.dtype not in VALUE_DTYPES:
        raise ValueError(
            f"{operator}: value must be float32, float64, float16 or bfloat16, "
            f"got {value.dtype} {tuple(value.shape)}"
        )
    wanted = wide_dtype(value)
    for name, tensor in positions.items():
        fits = tensor.is_floating_point() if any_float else tensor.dtype == wanted
        if not fits:
            raise ValueError(
                f"{operator}: {name} {tuple(tensor.shape)} must be {wanted} with a value of "
                f"{value.dtype}, got {tensor.dtype}; convert with .to({wanted})"
            )
