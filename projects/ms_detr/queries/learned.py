"""One-stage queries (Deformable DETR)."""

from __future__ import annotations

from torch import nn

from ..structures import FeaturePyramid, Queries
from .initializer import EmbeddedQueries


class LearnedQueries(EmbeddedQueries):
    """Content, position and reference point of every query are learned, the same for all images.

    Args:
        num_queries: number of queries.
        embed_dim: channels.
    """

    def __init__(self, *, num_queries: int = 300, embed_dim: int = 256):
        super().__init__()
        if num_queries < 1:
            raise ValueError(f"num_queries must be at least 1, got {num_queries}")
        self.embedding = nn.Embedding(num_queries, 2 * embed_dim)
        self.reference_points = nn.Linear(embed_dim, 2)
        nn.init.xavier_uniform_(self.reference_points.weight)
        nn.init.zeros_(self.reference_points.bias)

    def forward(self, memory: FeaturePyramid) -> tuple[Queries, None]:
        return self.of(self.embedding, memory), None

    def of(self, embedding: nn.Embedding, memory: FeaturePyramid) -> Queries:
        pos, content = embedding.weight.chunk(2, dim=1)
        images = len(memory.tokens_BSC)
        points = self.reference_points(pos).to(memory.dtype).sigmoid()
        expand = [x.expand(images, -1, -1) for x in (content, pos, points)]
        return Queries(*expand)

    def fresh(self) -> LearnedQueries:
        num_queries, channels = self.embedding.weight.shape
        return LearnedQueries(num_queries=num_queries, embed_dim=channels // 2)
