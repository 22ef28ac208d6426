"""The feed-forward part of a transformer layer."""

import torch.nn.functional as F
from torch import Tensor, nn


class FeedForward(nn.Module):
    """Two linear layers with a residual and a LayerNorm behind it (post-norm).

    Args:
        embed_dim: channels of input and output.
        hidden_dim: channels between the two layers.
        dropout: probability, after the activation and before the residual.
    """

    def __init__(self, embed_dim: int, hidden_dim: int, dropout: float):
        super().__init__()
        self.linear1 = nn.Linear(embed_dim, hidden_dim)
        self.dropout1 = nn.Dropout(dropout)
        self.linear2 = nn.Linear(hidden_dim, embed_dim)
        self.dropout2 = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.dropout1(F.relu(self.linear1(x)))
        return self.norm(x + self.dropout2(self.linear2(hidden)))
