"""The feed-forward part of a transformer layer."""

from __future__ import annotations

from torch import Tensor, nn


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
        self.dropout1 = nn.Dropout(dropout)
        self.linear2 = nn.Linear(hidden_dim, embed_dim)
        self.dropout2 = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.dropout1(self.activation(self.linear1(x)))
        return self.norm(x + self.dropout2(self.linear2(hidden)))
