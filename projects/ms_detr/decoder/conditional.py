"""Decoder layers with conditional cross-attention over a dense memory."""

from __future__ import annotations

from torch import Tensor, nn

from ..layers import ConditionalCrossAttention, ConditionalSelfAttention
from ..structures import FeaturePyramid
from .conditional_position import ConditionalPlaces, ConditionalPosition
from .layers import CrossSelfOrder, DecoderLayer, Groups, SelfCrossOrder


class ConditionalLayer(DecoderLayer):
    """Conditional attentions of Conditional DETR and DAB-DETR.

    Args:
        embed_dim: channels.
        feedforward_dim: hidden channels of the feed-forward.
        dropout: probability, everywhere.
        num_heads: of both attentions.
        activation: of the feed-forward, see :class:`ms_detr.layers.FeedForward`.
    """

    position_kind = ConditionalPosition

    def __init__(
        self,
        *,
        embed_dim: int = 256,
        feedforward_dim: int = 2048,
        dropout: float = 0.1,
        num_heads: int = 8,
        activation: nn.Module | None = None,
    ):
        super().__init__(
            ConditionalCrossAttention(embed_dim, num_heads, dropout),
            ConditionalSelfAttention(embed_dim, num_heads, dropout),
            embed_dim=embed_dim,
            feedforward_dim=feedforward_dim,
            dropout=dropout,
            activation=activation,
        )

    def attend_memory(
        self, query: Tensor, pos: ConditionalPlaces, reference: Tensor, memory: FeaturePyramid
    ) -> Tensor:
        # The reference is in the spatial queries.
        attended = self.cross_attention(query, pos.spatial, pos.start, memory)
        return self.cross_norm(query + self.cross_dropout(attended))

    def attend_queries(self, query: Tensor, pos: ConditionalPlaces, groups: Groups) -> Tensor:
        attended = self.self_attention(query, pos.pos, groups)
        return self.self_norm(query + self.self_dropout(attended))


class ConditionalSelfCrossLayer(SelfCrossOrder, ConditionalLayer):
    """The layer of Conditional DETR and DAB-DETR."""


class ConditionalCrossSelfLayer(CrossSelfOrder, ConditionalLayer):
    """The same attentions in the order of MS-DETR."""
