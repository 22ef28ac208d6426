"""Scaled dot-product attention whose dropout keeps no mask where it is compiled."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from ..ops import dropout, is_compiled


def attend(
    query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None = None, p: float = 0.0
) -> Tensor:
    """``torch.nn.functional.scaled_dot_product_attention``; arguments as there.

    On CPUs torch has no fused attention with dropout; put together here, it gets our dropout.

    Args:
        query, key, value: (..., N or S, channels of a head).
        visible: bool, True where a query may look; broadcast to (..., N, S).
        p: probability of an attention weight to be dropped.
    """
    if p == 0 or not is_compiled(query):
        return F.scaled_dot_product_attention(query, key, value, visible, p)
    scores = (query / math.sqrt(query.shape[-1])) @ key.transpose(-2, -1)
    if visible is not None:
        scores = scores.masked_fill(~visible, -math.inf)
    return dropout(scores.softmax(-1).to(value.dtype), p) @ value
