"""What a state dict must be before it is converted, and whether two of them are the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from .errors import CheckpointError, KeysError
from .layout import Side
from .names import Pair

_MENDS = {
    Side.OFFICIAL: "convert detectors of the (MS-)Deformable-DETR family with a ResNet; other "
    "backbones (Swin, ViT) and mask heads are not supported",
    Side.OURS: "the official code has no place for what is left over, such as box heads of the "
    "one-to-many supervision's own; it needs what is missing",
}


def check_tensors(state: Mapping[str, Any]) -> None:
    """Everything in a state dict is a dense tensor with finite numbers.

    Raises:
        CheckpointError: with the keys of what is not.
    """
    others = [key for key, value in state.items() if not isinstance(value, Tensor)]
    if others:
        raise CheckpointError(f"not a state dict: no tensors under {sorted(others)[:10]}")
    special = [key for key, value in state.items() if not _is_dense(value)]
    if special:
        raise CheckpointError(
            f"{len(special)} tensors are sparse, quantized or without values, such as "
            f"{sorted(special)[:5]}; save them as dense floating-point tensors"
        )
    broken = [key for key, value in state.items() if not torch.isfinite(value).all()]
    if broken:
        raise CheckpointError(
            f"{len(broken)} tensors hold NaN or infinite numbers, such as {sorted(broken)[:5]}; "
            "the training diverged, use an earlier checkpoint"
        )


def check_keys(state: Mapping[str, Tensor], wanted: Iterable[str], side: Side) -> None:
    """The keys are exactly those of the model.

    Raises:
        KeysError: keys are left over or missing; all are listed.
    """
    wanted = set(wanted)
    left_over, missing = set(state) - wanted, wanted - set(state)
    if left_over or missing:
        raise KeysError(left_over, missing, state, _MENDS[side])


def check_duplicates(official: Mapping[str, Tensor], pairs: Iterable[Pair]) -> None:
    """Keys that name one tensor in the official model hold one value.

    Raises:
        CheckpointError: two of them differ; it says by how much.
    """
    for pair in pairs:
        first = official[pair.theirs[0]]
        for key in pair.theirs[1:]:
            copy = official[key]
            if copy.shape != first.shape or copy.dtype != first.dtype:
                raise CheckpointError(
                    f"{key} {tuple(copy.shape)} {copy.dtype} must be the same tensor as "
                    f"{pair.theirs[0]} {tuple(first.shape)} {first.dtype}, as in the official model"
                )
            if not torch.equal(copy, first):
                largest = (copy.double() - first.double()).abs().max().item()
                raise CheckpointError(
                    f"{key} must be the same tensor as {pair.theirs[0]}, as in the official "
                    f"model, but differs from it by up to {largest:.6g}"
                )


def check_same(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Refuse a state dict that is not the other, bit by bit.

    Raises:
        CheckpointError: names or values differ; all are listed.
    """
    differing = sorted(found.keys() ^ wanted.keys())
    differing += [
        key
        for key in wanted.keys() & found.keys()
        if found[key].dtype != wanted[key].dtype or not torch.equal(found[key], wanted[key])
    ]
    if differing:
        raise CheckpointError(f"converted back, these tensors are not what they were: {differing}")


def _is_dense(value: Tensor) -> bool:
    return (
        value.layout == torch.strided
        and not value.is_quantized
        and not value.is_nested
        and not value.is_meta
    )
