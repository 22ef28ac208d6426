"""The feed-forward part of a transformer layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .chunked_feed_forward import chunked_feed_forward
from .dropout import Dropout


class FeedForward(nn.Module):
    """Two linear layers with a residual and a LayerNorm behind it (post-norm).

    Args:
        embed_dim: channels of input and output.
        hidden_dim: channels between the two layers.
        dropout: probability, after the activation and before the residual.
        activation: between the two linear layers; ReLU by default.
    """

    def __init__(
        self,
        embed_dim: int,
        hidden_dim: int,
        dropout: float,
        activation: nn.Module | None = None,
    ):
        super().__init__()
        self.linear1 = nn.Linear(embed_dim, hidden_dim)
        self.activation = nn.ReLU() if activation is None else activation
        self.dropout1 = Dropout(dropout)
        self.linear2 = nn.Linear(hidden_dim, embed_dim)
        self.dropout2 = Dropout(dropout)
        self.norm = nn.LayerNorm(embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x + self.dropout2(self._between(x)))

    def _between(self, x: Tensor) -> Tensor:
        """The two linear layers with what is between them."""
        # Where there is a gradient, that of ReLU and dropout follows from the hidden layer itself.
        if torch.is_grad_enabled() and type(self.activation) is nn.ReLU:
            first, second = self.linear1, self.linear2
            p = self.dropout1.p if self.training else 0.0
            return chunked_feed_forward(x, first.weight, first.bias, second.weight, second.bias, p)
        return self.linear2(self.dropout1(self.activation(self.linear1(x))))
