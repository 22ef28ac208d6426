"""Decoder layers: the order of the two attentions is the class.

Both layers hand out the state between their attentions as well; MS-DETR (Figure 4) puts its
one-to-many supervision there: in :class:`CrossSelfLayer` this is implementation (c), in
:class:`SelfCrossLayer` implementation (d).  Read at the output they are (b) and (a).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from ..layers import FeedForward, MultiScaleDeformableAttention, QuerySelfAttention
from ..query_groups import QueryGroup
from ..structures import FeaturePyramid

Groups = Sequence[QueryGroup]


class LayerStates(NamedTuple):
    """Query states (B, N, C): at the end of the layer, and between its two attentions."""

    output: Tensor
    internal: Tensor


class DecoderLayer(nn.Module):
    """The parts of a layer: cross-attention to the memory, self-attention, feed-forward; post-norm.

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
        super().__init__()
        self.cross_attention = MultiScaleDeformableAttention(
            embed_dim, num_heads, num_levels, num_points
        )
        self.cross_dropout = nn.Dropout(dropout)
        self.cross_norm = nn.LayerNorm(embed_dim)
        self.self_attention = QuerySelfAttention(embed_dim, num_heads, dropout)
        self.self_dropout = nn.Dropout(dropout)
        self.self_norm = nn.LayerNorm(embed_dim)
        self.feed_forward = FeedForward(embed_dim, feedforward_dim, dropout)

    def attend_memory(
        self, query: Tensor, pos: Tensor, reference: Tensor, memory: FeaturePyramid
    ) -> Tensor:
        """Cross-attention with its residual and norm."""
        attended = self.cross_attention(query + pos, reference, memory)
        return self.cross_norm(query + self.cross_dropout(attended))

    def attend_queries(self, query: Tensor, pos: Tensor, groups: Groups) -> Tensor:
        """Self-attention with its residual and norm."""
        attended = self.self_attention(query, pos, groups)
        return self.self_norm(query + self.self_dropout(attended))

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
            pos_BNC: position embeddings of the queries.
            reference_BNr: boxes or points to attend around.
            memory: the encoder's output.
            groups: whom the queries belong to; none: all are one group.
        """
        raise NotImplementedError


class SelfCrossLayer(DecoderLayer):
    """Self-attention, cross-attention, feed-forward: the layer of Deformable DETR."""

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


class CrossSelfLayer(DecoderLayer):
    """Cross-attention, self-attention, feed-forward: the layer of MS-DETR (supplement, eqs. 1-2).

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
