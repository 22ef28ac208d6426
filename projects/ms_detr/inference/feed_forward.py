"""The feed-forward without what only training needs."""

from __future__ import annotations

from torch import Tensor, nn

from ..layers import FeedForward
from .chunks import by_chunks


class ChunkedFeedForward(nn.Module):
    """:class:`ms_detr.layers.FeedForward` without dropout, a few thousand tokens at a time.

    Args:
        feed_forward: whose parts are used.
    """

    def __init__(self, feed_forward: FeedForward):
        super().__init__()
        self.linear1 = feed_forward.linear1
        activation = feed_forward.activation
        # Nobody else sees what it works on.
        self.activation = nn.ReLU(inplace=True) if type(activation) is nn.ReLU else activation
        self.linear2 = feed_forward.linear2
        self.norm = feed_forward.norm

    def forward(self, x: Tensor) -> Tensor:
        (result,) = by_chunks(self._rows, x.flatten(0, -2))
        return result.view(x.shape)

    def _rows(self, x_RC: Tensor) -> tuple[Tensor]:
        return (self.norm(x_RC + self.linear2(self.activation(self.linear1(x_RC)))),)
