"""The multi-scale deformable encoder (Deformable DETR, section 4.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..layers import (
    Dropout,
    FeedForward,
    MultiScaleDeformableAttention,
    SinePosition,
    reset_transformer_parameters,
)
from ..structures import FeaturePyramid


class DeformableEncoderLayer(nn.Module):
    """Deformable self-attention over all levels, then a feed-forward; both post-norm."""

    def __init__(
        self,
        *,
        embed_dim: int,
        feedforward_dim: int,
        dropout: float,
        num_heads: int = 8,
        num_levels: int = 4,
        num_points: int = 4,
    ):
        super().__init__()
        self.attention = MultiScaleDeformableAttention(embed_dim, num_heads, num_levels, num_points)
        self.dropout = Dropout(dropout)
        self.norm = nn.LayerNorm(embed_dim)
        self.feed_forward = FeedForward(embed_dim, feedforward_dim, dropout)

    def forward(self, memory: FeaturePyramid, centers_BS2: Tensor) -> Tensor:
        """Return new tokens (B, S, C)."""
        tokens = memory.tokens_BSC
        attended = self.attention(tokens + memory.pos_BSC, centers_BS2, memory)
        return self.feed_forward(self.norm(tokens + self.dropout(attended)))


class DeformableEncoder(nn.Module):
    """Feature maps in, memory out: every cell reads from all levels, layer by layer.

    Args:
        num_layers: number of layers; 0 gives the maps themselves.
        embed_dim, feedforward_dim, dropout, num_heads, num_levels, num_points: of each layer.
        position: of the tokens of every level; None: that of Deformable DETR.
    """

    def __init__(
        self,
        *,
        num_layers: int = 6,
        embed_dim: int = 256,
        feedforward_dim: int = 1024,
        dropout: float = 0.1,
        num_heads: int = 8,
        num_levels: int = 4,
        num_points: int = 4,
        position: SinePosition | None = None,
    ):
        super().__init__()
        self.position = SinePosition(embed_dim) if position is None else position
        self.level_embed = nn.Parameter(torch.empty(num_levels, embed_dim))
        self.layers = nn.ModuleList(
            DeformableEncoderLayer(
                embed_dim=embed_dim,
                feedforward_dim=feedforward_dim,
                dropout=dropout,
                num_heads=num_heads,
                num_levels=num_levels,
                num_points=num_points,
            )
            for _ in range(num_layers)
        )
        reset_transformer_parameters(self)
        nn.init.normal_(self.level_embed)

    def forward(self, maps: list[Tensor], padding_BHW: Tensor) -> FeaturePyramid:
        """Encode.

        Args:
            maps: (B, C, Hl, Wl) per level, finest first.
            padding_BHW: padding of the images.
        """
        memory = FeaturePyramid.from_maps(maps, padding_BHW, self._embed)
        centers_BS2 = memory.centers_BS2()
        for layer in self.layers:
            memory = memory.with_tokens(layer(memory, centers_BS2))
        return memory

    def _embed(self, level: int, valid_B2: Tensor, shape: tuple[int, int], dtype) -> Tensor:
        return self.position(valid_B2, shape, dtype) + self.level_embed[level].to(dtype)
