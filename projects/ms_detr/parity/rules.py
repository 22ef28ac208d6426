"""Weights and images of recorded cases, made from their names.

Nothing but names and shapes is stored with a case: every tensor is a normal sample whose seed is
the checksum of its name, scaled by what kind of tensor the name says it is.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Sequence

import numpy as np

# One sampling point after the other steps away from the reference, in one direction per head.
DIRECTIONS = [(1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1)]


def normal_sample(name: str, shape: Sequence[int]) -> np.ndarray:
    """Standard normal float64 values that depend on the name and the shape only."""
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    return generator.standard_normal(tuple(shape))


def image(name: str, shape: Sequence[int]) -> np.ndarray:
    """A float32 image (3, H, W), already normalised."""
    return normal_sample(name, shape).astype(np.float32)


def weight(key: str, shape: Sequence[int]) -> np.ndarray:
    """The float32 tensor of an official state-dict key; registered copies need a canonical key."""
    sample = normal_sample(key, shape)
    scale, shift = _scale_and_shift(key, tuple(shape), sample)
    return (shift + scale * sample).astype(np.float32)


def canonical(key: str, shared_heads: bool) -> str:
    """The key that gives a tensor its value when the official model registers it several times.

    Args:
        key: any key of the state dict.
        shared_heads: all decoder layers have the same heads (no box refinement).
    """
    key = re.sub(r"^transformer\.decoder\.(class|bbox)_embed\.", r"\1_embed.", key)
    key = re.sub(r"^bbox_embed_o2m\.", "bbox_embed.", key)
    return re.sub(r"^(class|bbox)_embed\.\d+\.", r"\1_embed.0.", key) if shared_heads else key


def _scale_and_shift(
    key: str, shape: tuple[int, ...], sample: np.ndarray
) -> tuple[float | np.ndarray, float | np.ndarray]:
    fan_in = float(np.prod(shape[1:]))
    if key.endswith("sampling_offsets.bias"):
        return 0.25, _offsets(shape[0])
    if key.endswith("sampling_offsets.weight"):
        return 0.3 / math.sqrt(fan_in), 0.0
    if re.search(r"(^|\.)class_embed(_o2m)?\.\d+\.weight$", key):
        return 3.0 / math.sqrt(fan_in), 0.0
    if re.search(r"(^|\.)class_embed(_o2m)?\.\d+\.bias$", key):
        return 0.02, -math.log(0.99 / 0.01)
    if key.endswith(("level_embed", "query_embed.weight")):
        return 1.0, 0.0
    if key.endswith("running_var"):
        return 0.1 * np.sign(sample), 1.0
    if len(shape) == 1:
        if key.endswith(".weight"):
            return 0.02, 1.0
        return -0.02 if key == "transformer.enc_output.bias" else 0.02, 0.0
    return math.sqrt((2.0 if key.startswith("backbone.") else 1.0) / fan_in), 0.0


def _offsets(length: int) -> np.ndarray:
    """Order: head, level, point, (x, y); four points a head and level, as in all official code."""
    points = np.arange(1, 5)
    steps = np.array(DIRECTIONS, dtype=np.float64)[:, None, None, :] * points[None, None, :, None]
    levels = length // steps[:, 0].size
    return np.tile(steps, (1, levels, 1, 1)).reshape(-1)
