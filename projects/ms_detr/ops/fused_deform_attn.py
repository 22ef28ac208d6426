"""Multi-scale deformable attention with softmax and sampling locations inside: what layers call.

Letters: B images, S tokens of all levels, H heads, c channels of a head, N queries, L levels, Z
points of a level; r is 2 (x, y) or 4 (cx, cy, w, h).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ms_detr.ops import registration  # noqa: F401  (defines the operator)
from ms_detr.ops.checks import check_fused_inputs, flatten_shapes, require_tensors
from ms_detr.ops.library import is_autocast


def fused_deform_attn(
    value: Tensor,
    shapes: Sequence[tuple[int, int]],
    reference: Tensor,
    offsets: Tensor,
    logits: Tensor,
) -> Tensor:
    """:func:`ms_deform_attn` at ``offsets`` from a reference, with weights softmax(``logits``).

    The locations are (Zhu et al., "Deformable DETR", ICLR 2021, section 4.1 and appendix A.4)

        reference + offsets / (width, height) of the level     around reference points (r = 2)
        reference[:2] + offsets * reference[2:] * 0.5 / Z       around reference boxes (r = 4)

    and the weights of the L * Z points of a query and head sum to 1. The compiled kernels keep
    both in registers: nothing of the size of ``offsets`` is written in inference, and for the
    gradients only the inputs are kept. Differentiable once, with respect to all tensors.

    Under autocast everything but ``value`` is computed with in float32, whatever it comes as.

    Args:
        value, shapes: as in :func:`ms_deform_attn`.
        reference: (B, N, L, r) as fractions of each level's padded map, i.e. already multiplied by
            the share of the level that is image. float32; float64 with a float64 value.
        offsets: (B, N, H, L, Z, 2), dtype of ``reference``.
        logits: (B, N, H, L * Z), dtype of ``reference``; the points of one level are neighbours.

    Returns:
        (B, N, H * c), dtype of ``value``. NaN for a query and head with a location or logit that
        is NaN, or a location that is infinite.

    Raises:
        ValueError: a shape, dtype or device does not fit; the message names the argument and the
            shapes.
    """
    sizes = flatten_shapes(shapes, "fused_deform_attn")
    require_tensors(
        "fused_deform_attn", value=value, reference=reference, offsets=offsets, logits=logits
    )
    any_float = is_autocast(value.device.type)
    check_fused_inputs(value, sizes, reference, offsets, logits, any_float=any_float)
    return torch.ops.ms_detr.fused_deform_attn(value, sizes, reference, offsets, logits)
