"""Did two runs end alike, in every bit?"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .events import MEASURED

# Present in both runs or in none, and the same.
_CHECKPOINTS = ("model_final.pth", "model_final_ema.pth", "model_best.pth")


def run_differences(left: str | os.PathLike[str], right: str | os.PathLike[str]) -> list[str]:
    """Where two output directories differ: in weights, optimizer, averages, metrics or results.

    Times and speeds are left out, as are the checkpoints of the way.

    Returns:
        One text for each difference; empty if the runs ended alike.
    """
    folders, found = (Path(left), Path(right)), []
    for name in _CHECKPOINTS:
        there = [(folder / name).exists() for folder in folders]
        if there[0] != there[1]:
            found.append(f"{name}: only in {folders[there.index(True)]}")
        elif all(there):
            both = [torch.load(f / name, map_location="cpu", weights_only=True) for f in folders]
            found += differences(*both, name)
    found += differences(*(read_lines(folder) for folder in folders), "metrics.json")
    results = [(folder / "results.json").read_bytes() for folder in folders]
    return found + (["results.json"] if results[0] != results[1] else [])


def read_lines(folder: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The lines of ``metrics.json``."""
    return [json.loads(line) for line in Path(folder, "metrics.json").read_text().splitlines()]


def differences(left: Any, right: Any, path: str = "") -> list[str]:
    """Where two nested values differ in any bit, by dotted path; times are left out."""
    if isinstance(left, Tensor) and isinstance(right, Tensor):
        same = left.dtype == right.dtype and left.shape == right.shape
        return [] if same and _bits(left) == _bits(right) else [path]
    if isinstance(left, dict) and isinstance(right, dict):
        keys = sorted((left.keys() | right.keys()) - MEASURED, key=str)
        return [
            where
            for key in keys
            for where in differences(left.get(key), right.get(key), f"{path}.{key}")
        ]
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        if len(left) != len(right):
            return [f"{path}: {len(left)} and {len(right)} entries"]
        pairs = enumerate(zip(left, right))
        return [where for i, pair in pairs for where in differences(*pair, f"{path}[{i}]")]
    # Numbers by their text, in which NaN is equal to itself and no digit is missing.
    return [] if repr(left) == repr(right) else [f"{path}: {left!r} and {right!r}"]


def _bits(tensor: Tensor) -> bytes:
    return tensor.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes()
