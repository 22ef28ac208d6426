"""Dropout that keeps no mask where a compiled kernel can compute it anew."""

from __future__ import annotations

from torch import Tensor, nn

from ..ops import dropout


class Dropout(nn.Dropout):
    """``torch.nn.Dropout`` computed by :func:`ms_detr.ops.dropout`.

    Args:
        p: probability of a number to be zeroed, in [0, 1].
    """

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p) if self.training and self.p > 0 else x
