"""Multi-scale deformable attention: the function that the layers call.

Letters: B images, S tokens of all levels, H heads, c channels of a head, N queries, L levels, Z
points of a level.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ms_detr.ops import registration  # noqa: F401  (defines the operator)
from ms_detr.ops.checks import check_inputs, flatten_shapes, require_tensors
from ms_detr.ops.library import is_autocast


def ms_deform_attn(
    value: Tensor, shapes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    """Weighted sum of few sampled points of a feature pyramid, for each query and head.

    Each query reads Z points of each of the L levels, bilinearly, and adds them up with its weights
    (Zhu et al., "Deformable DETR", ICLR 2021, section 4.1, without the linear layers around it).
    Points outside a level, and the parts of border pixels outside it, read zeros. Differentiable
    once, with respect to all three tensors.

    Under autocast the locations and weights are computed with in float32, whatever they come as,
    since 8 or 11 bits cannot tell neighbouring pixels of a large map apart; ``value`` keeps its
    dtype (after a linear layer it is half precision already), and so does the output. Sums are
    float32 (float64 for float64 values).

    Args:
        value: (B, S, H, c) float32, float64, float16 or bfloat16; the levels one after the other,
            each row by row.
        shapes: (height, width) of each level, Python integers, S in sum. Not a tensor: reading it
            would make the host wait for the device.
        locations: (B, N, H, L, Z, 2) points (x, y) as fractions of each level's padded map: 0 and 1
            are the outer borders of the first and last pixel (``align_corners=False``). float32;
            float64 with a float64 value.
        weights: (B, N, H, L, Z), dtype of ``locations``; nothing is normalised here.

    Returns:
        (B, N, H * c), dtype of ``value``. A query and head with a location that is NaN or infinite
        gives NaN.

    Raises:
        ValueError: a shape, dtype or device does not fit; the message names the argument and the
            shapes.
    """
    sizes = flatten_shapes(shapes)
    require_tensors("ms_deform_attn", value=value, locations=locations, weights=weights)
    any_float = is_autocast(value.device.type)
    check_inputs(value, sizes, locations, weights, any_float=any_float)
    return torch.ops.ms_detr.ms_deform_attn(value, sizes, locations, weights)
