"""Decoder layers: the order of the two attentions is the class.

Every layer hands out the state between its attentions as well; MS-DETR (Figure 4) puts its
one-to-many supervision there: in :class:`CrossSelfLayer` this is implementation (c), in
:class:`SelfCrossLayer` implementation (d).  Read at the output they are (b) and (a).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from ..layers import Dropout, FeedForward, MultiScaleDeformableAttention, QuerySelfAttention
from ..structures import FeaturePyramid
from ..structures.query_groups import QueryGroup
from .position import QueryPosition

Groups = Sequence[QueryGroup]


class LayerStates(NamedTuple):
    """Query states (B, N, C): at the end of the layer, and between its two attentions."""

    output: Tensor
    internal: Tensor


class DecoderLayer(nn.Module):
    """The parts of a layer: cross-attention to the memory, self-attention, feed-forward; post-norm.

    A subclass says which attentions, another one in which order.

    Args:
        cross_attention, self_attention: the attentions.
        embed_dim: channels.
        feedforward_dim: hidden channels of the feed-forward.
        dropout: probability, outside of the attentions.
        activation: of the feed-forward, see :class:`ms_detr.layers.FeedForward`.
    """

    # What makes the positions that the layer takes.
    position_kind: type[nn.Module] = QueryPosition

    def __init__(
        self,
        cross_attention: nn.Module,
        self_attention: nn.Module,
        *,
        embed_dim: int,
        feedforward_dim: int,
        dropout: float,
        activation: nn.Module | None = None,
    ):
        super().__init__()
        self.cross_attention = cross_attention
        self.cross_dropout = Dropout(dropout)
        self.cross_norm = nn.LayerNorm(embed_dim)
        self.self_attention = self_attention
        self.self_dropout = Dropout(dropout)
        self.self_norm = nn.LayerNorm(embed_dim)
        self.feed_forward = FeedForward(embed_dim, feedforward_dim, dropout, activation)

    def attend_memory(
        self, query: Tensor, pos: Tensor, reference: Tensor, memory: FeaturePyramid
    ) -> Tensor:
        """Cross-attention with its residual and norm."""
        raise NotImplementedError

    def attend_queries(self, query: Tensor, pos: Tensor, groups: Groups) -> Tensor:
        """Self-attention with its residual and norm."""
        raise NotImplementedError

    def forward(
        self,
        query_BNC: Tensor,
        pos_BNC: Tensor,
        reference_BNr: Tensor,
        memory: FeaturePyramid,
        groups: Groups = (),
    ) -> LayerStates:
        """Run the layer.

        Args:
            query_BNC: query states.
            pos_BNC: what the layer's kind of position makes.
            reference_BNr: boxes or points to attend around.
            memory: the encoder's output.
            groups: whom the queries belong to; none: all are one group.
        """
        raise NotImplementedError


class DeformableLayer(DecoderLayer):
    """Deformable cross-attention and plain self-attention.

    Args:
        embed_dim: channels.
        feedforward_dim: hidden channels of the feed-forward.
        dropout: probability, everywhere.
        num_heads, num_levels, num_points: of the attentions.
    """

    def __init__(
        self,
        *,
        embed_dim: int = 256,
        feedforward_dim: int = 1024,
        dropout: float = 0.1,
        num_heads: int = 8,
        num_levels: int = 4,
        num_points: int = 4,
    ):
        super().__init__(
            MultiScaleDeformableAttention(embed_dim, num_heads, num_levels, num_points),
            QuerySelfAttention(embed_dim, num_heads, dropout),
            embed_dim=embed_dim,
            feedforward_dim=feedforward_dim,
            dropout=dropout,
        )

    def attend_memory(
        self, query: Tensor, pos: Tensor, reference: Tensor, memory: FeaturePyramid
    ) -> Tensor:
        attended = self.cross_attention(query + pos, reference, memory)
        return self.cross_norm(query + self.cross_dropout(attended))

    def attend_queries(self, query: Tensor, pos: Tensor, groups: Groups) -> Tensor:
        attended = self.self_attention(query, pos, groups)
        return self.self_norm(query + self.self_dropout(attended))


class SelfCrossOrder(DecoderLayer):
    """Self-attention, cross-attention, feed-forward."""

    def forward(
        self,
        query_BNC: Tensor,
        pos_BNC: Tensor,
        reference_BNr: Tensor,
        memory: FeaturePyramid,
        groups: Groups = (),
    ) -> LayerStates:
        internal = self.attend_queries(query_BNC, pos_BNC, groups)
        attended = self.attend_memory(internal, pos_BNC, reference_BNr, memory)
        return LayerStates(self.feed_forward(attended), internal)


class CrossSelfOrder(DecoderLayer):
    """Cross-attention, self-attention, feed-forward.

    Cross-attention makes candidates; self-attention then lets one of them win.
    """

    def forward(
        self,
        query_BNC: Tensor,
        pos_BNC: Tensor,
        reference_BNr: Tensor,
        memory: FeaturePyramid,
        groups: Groups = (),
    ) -> LayerStates:
        internal = self.attend_memory(query_BNC, pos_BNC, reference_BNr, memory)
        attended = self.attend_queries(internal, pos_BNC, groups)
        return LayerStates(self.feed_forward(attended), internal)


class SelfCrossLayer(SelfCrossOrder, DeformableLayer):
    """The layer of Deformable DETR."""


class CrossSelfLayer(CrossSelfOrder, DeformableLayer):
    """The layer of MS-DETR (supplement, equations 1 and 2)."""
