"""Learned queries whose contents the image fills: Conditional DETR's points, DAB-DETR's anchors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..layers import MLP, reset_transformer_parameters
from ..structures import FeaturePyramid, Queries
from .initializer import EmbeddedQueries, QueryInitializer


class ConditionalQueries(EmbeddedQueries):
    """Learned positions; reference points are a perceptron of them, contents start at zero.

    Conditional DETR, sections 3.2 and 3.3.

    Args:
        num_queries: number of queries.
        embed_dim: channels.
    """

    def __init__(self, *, num_queries: int = 300, embed_dim: int = 256):
        super().__init__()
        check_number(num_queries)
        self.embedding = nn.Embedding(num_queries, embed_dim)
        self.point_head = MLP([embed_dim, embed_dim, 2])
        reset_transformer_parameters(self.point_head)

    def forward(self, memory: FeaturePyramid) -> tuple[Queries, None]:
        return self.of(self.embedding, memory), None

    def of(self, embedding: nn.Embedding, memory: FeaturePyramid) -> Queries:
        pos = embedding.weight
        points = self.point_head(pos).to(memory.dtype).sigmoid()
        expand = [x.expand(len(memory.tokens_BSC), -1, -1) for x in (pos, points)]
        return Queries(torch.zeros_like(expand[0]), *expand)

    def fresh(self) -> ConditionalQueries:
        return ConditionalQueries(
            num_queries=self.embedding.num_embeddings, embed_dim=self.embedding.embedding_dim
        )


class AnchorQueries(QueryInitializer):
    """Learned anchor boxes; contents start at zero (DAB-DETR, section 4).

    The decoder makes the positions from the boxes: see :mod:`ms_detr.decoder.position`.

    Args:
        num_queries: number of queries.
        embed_dim: channels.
    """

    starts_from_boxes = True
    brings_positions = False

    def __init__(self, *, num_queries: int = 300, embed_dim: int = 256):
        super().__init__()
        check_number(num_queries)
        self.embed_dim = embed_dim
        # Logits of (cx, cy, w, h), at first normally distributed around the middle of the image.
        self.anchors = nn.Embedding(num_queries, 4)

    def forward(self, memory: FeaturePyramid) -> tuple[Queries, None]:
        anchors = self.anchors.weight.to(memory.dtype).sigmoid()
        expand = [x.expand(len(memory.tokens_BSC), -1, -1) for x in (self.content(), anchors)]
        return Queries(expand[0], None, expand[1]), None

    def content(self) -> Tensor:
        """Contents (N, C)."""
        anchors = self.anchors.weight
        return anchors.new_zeros(len(anchors), self.embed_dim)

    def around(self, reference_BN4: Tensor) -> Queries:
        nothing = reference_BN4.new_zeros(*reference_BN4.shape[:2], self.embed_dim)
        return Queries(nothing, None, reference_BN4)

    def fresh(self) -> AnchorQueries:
        return type(self)(num_queries=len(self.anchors.weight), embed_dim=self.embed_dim)


class ContentAnchorQueries(AnchorQueries):
    """The same with learned contents, as DAB-Deformable-DETR has them.

    Args:
        num_queries, embed_dim: see :class:`AnchorQueries`.
    """

    def __init__(self, *, num_queries: int = 300, embed_dim: int = 256):
        super().__init__(num_queries=num_queries, embed_dim=embed_dim)
        self.contents = nn.Embedding(num_queries, embed_dim)

    def content(self) -> Tensor:
        return self.contents.weight


def check_number(num_queries: int) -> None:
    """Raises ValueError unless there is at least one query."""
    if num_queries < 1:
        raise ValueError(f"num_queries must be at least 1, got {num_queries}")
