"""Attention that keeps what a query is apart from where it is (Conditional DETR, section 3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..structures import FeaturePyramid
from ..structures.query_groups import QueryGroup
from .scaled_attention import attend
from .self_attention import grouped_attention


class ConditionalAttention(nn.Module):
    """Multi-head attention on queries, keys and values that are projected already.

    Args:
        embed_dim: channels of values and output, divisible by ``num_heads``.
        num_heads: attention heads.
        dropout: probability of an attention weight to be dropped.
    """

    def __init__(self, embed_dim: int, num_heads: int = 8, dropout: float = 0.0):
        super().__init__()
        if embed_dim % num_heads:
            raise ValueError(f"embed_dim {embed_dim} is not divisible by num_heads {num_heads}")
        self.num_heads = num_heads
        self.dropout = dropout
        self.value_proj = nn.Linear(embed_dim, embed_dim)
        self.output_proj = nn.Linear(embed_dim, embed_dim)
        nn.init.zeros_(self.output_proj.bias)

    def heads(self, x: Tensor) -> Tensor:
        """(B, N, C) as (B, num_heads, N, C / num_heads)."""
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None = None
    ) -> Tensor:
        """Attend, head by head.

        Args:
            query, key, value: (B, num_heads, N or S, channels of a head).  Scores are divided by
                the root of the query's channels.
            visible: bool, True where a query may look; broadcast to (B, num_heads, N, S).

        Returns:
            (B, N, C).
        """
        dropout = self.dropout if self.training else 0.0
        attended = attend(query, key, value, visible, dropout)
        return self.output_proj(attended.transpose(1, 2).flatten(2))


class ConditionalSelfAttention(ConditionalAttention):
    """Self-attention of the queries; content and position have projections of their own.

    Args:
        embed_dim, num_heads, dropout: see :class:`ConditionalAttention`.
    """

    def __init__(self, embed_dim: int, num_heads: int = 8, dropout: float = 0.0):
        super().__init__(embed_dim, num_heads, dropout)
        self.query_content_proj = nn.Linear(embed_dim, embed_dim)
        self.query_pos_proj = nn.Linear(embed_dim, embed_dim)
        self.key_content_proj = nn.Linear(embed_dim, embed_dim)
        self.key_pos_proj = nn.Linear(embed_dim, embed_dim)

    def forward(
        self, content_BNC: Tensor, pos_BNC: Tensor, groups: Sequence[QueryGroup] = ()
    ) -> Tensor:
        """Attend; arguments as in :class:`ms_detr.layers.QuerySelfAttention`."""
        query = self.query_content_proj(content_BNC) + self.query_pos_proj(pos_BNC)
        key = self.key_content_proj(content_BNC) + self.key_pos_proj(pos_BNC)
        value = self.value_proj(content_BNC)
        dropout = self.dropout if self.training else 0.0
        attended = grouped_attention(query, key, value, groups, self.num_heads, dropout)
        return self.output_proj(attended)


class ConditionalCrossAttention(ConditionalAttention):
    """Content is compared with content, place with place: the two products are added.

    In every head the content and the place of a query stand side by side, and so do those of a
    token, so that their product is the sum of both (Conditional DETR, equation 5).

    Args:
        embed_dim, num_heads, dropout: see :class:`ConditionalAttention`.
    """

    def __init__(self, embed_dim: int, num_heads: int = 8, dropout: float = 0.0):
        super().__init__(embed_dim, num_heads, dropout)
        self.query_content_proj = nn.Linear(embed_dim, embed_dim)
        self.query_spatial_proj = nn.Linear(embed_dim, embed_dim)
        self.key_content_proj = nn.Linear(embed_dim, embed_dim)
        self.key_pos_proj = nn.Linear(embed_dim, embed_dim)

    def forward(
        self,
        content_BNC: Tensor,
        spatial_BNC: Tensor,
        start_BNC: Tensor | None,
        memory: FeaturePyramid,
    ) -> Tensor:
        """Attend.

        Args:
            content_BNC: states of the queries.
            spatial_BNC: their spatial queries.
            start_BNC: None, or what is added to their contents; the tokens' positions are added to
                the tokens' contents then too, as in DETR.
            memory: what is read; padding is not.

        Returns:
            (B, N, C).
        """
        query, key = self.query_content_proj(content_BNC), self.key_content_proj(memory.tokens_BSC)
        spatial, pos = self.query_spatial_proj(spatial_BNC), self.key_pos_proj(memory.pos_BSC)
        if start_BNC is not None:
            query, key = query + start_BNC, key + pos
        return self.attend(
            torch.cat([self.heads(query), self.heads(spatial)], -1),
            torch.cat([self.heads(key), self.heads(pos)], -1),
            self.heads(self.value_proj(memory.tokens_BSC)),
            ~memory.padding_BS[:, None, None, :],
        )
