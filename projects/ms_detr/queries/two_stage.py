"""Two-stage queries: the best proposals of the encoder become the decoder's references."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from ..layers import sine_features
from ..structures import FeaturePyramid, Proposals, Queries
from .initializer import QueryInitializer
from .proposals import EncoderProposals


class TwoStageQueries(QueryInitializer):
    """References, positions and contents come from the best proposals (Deformable DETR, A.4.3).

    An image with fewer tokens than queries gets as many queries as it has tokens.

    Args:
        proposals: the first stage.
        num_queries: queries per image.
        embed_dim: channels.
        temperature: of the sine features of the proposed boxes.
    """

    def __init__(
        self,
        *,
        proposals: EncoderProposals,
        num_queries: int = 300,
        embed_dim: int = 256,
        temperature: float = 10000.0,
    ):
        super().__init__()
        if num_queries < 1:
            raise ValueError(f"num_queries must be at least 1, got {num_queries}")
        self.proposals = proposals
        self.num_queries = num_queries
        self.embed_dim = embed_dim
        self.temperature = temperature
        self.projection = nn.Linear(2 * embed_dim, 2 * embed_dim)
        self.norm = nn.LayerNorm(2 * embed_dim)
        nn.init.xavier_uniform_(self.projection.weight)

    def forward(self, memory: FeaturePyramid) -> tuple[Queries, Proposals]:
        proposals = self.proposals(memory)
        queries = self.ranked(proposals, 0, self.num_queries)
        return replace(queries, content_BNC=self._contents(queries.content_BNC)), proposals

    def ranked(self, proposals: Proposals, first: int, count: int) -> Queries:
        """Queries whose content and position follow from a part of each image's best proposals.

        Args:
            proposals: of all tokens.
            first: how many of the best to leave out.
            count: how many to take after these; fewer come if the image has fewer tokens.
        """
        # A token without an anchor comes last, and only when there is nothing else.
        ranking_BS = (
            proposals.logits_BSK[..., 0].detach().masked_fill(~proposals.valid_BS, -float("inf"))
        )
        top_BN = ranking_BS.topk(min(first + count, ranking_BS.shape[1]))[1][:, first:]
        reference = proposals.boxes_BS4.detach().gather(1, top_BN[..., None].expand(-1, -1, 4))
        pos, content = self._embed(reference)
        return Queries(content, pos, reference)

    def positions(self, reference_BN4: Tensor) -> Tensor:
        return self._embed(reference_BN4)[0]

    def fresh(self) -> TwoStageQueries:
        return type(self)(
            proposals=self.proposals.fresh(),
            num_queries=self.num_queries,
            embed_dim=self.embed_dim,
            temperature=self.temperature,
        )

    def _contents(self, proposed_BNC: Tensor) -> Tensor:
        return proposed_BNC

    def _embed(self, reference_BN4: Tensor) -> tuple[Tensor, Tensor]:
        """Position and content embedding (B, N, C) of boxes."""
        features = sine_features(reference_BN4, self.embed_dim // 2, self.temperature).flatten(-2)
        features = self.norm(self.projection(features.to(self.projection.weight.dtype)))
        pos, content = features.chunk(2, dim=-1)
        return pos, content


class MixedSelectionQueries(TwoStageQueries):
    """Mixed query selection (DINO, section 3.5): positions from proposals, contents learned."""

    def __init__(
        self,
        *,
        proposals: EncoderProposals,
        num_queries: int = 300,
        embed_dim: int = 256,
        temperature: float = 10000.0,
    ):
        super().__init__(
            proposals=proposals,
            num_queries=num_queries,
            embed_dim=embed_dim,
            temperature=temperature,
        )
        self.content = nn.Embedding(num_queries, embed_dim)

    def _contents(self, proposed_BNC: Tensor) -> Tensor:
        images, num_queries, _ = proposed_BNC.shape
        return self.content.weight[:num_queries].expand(images, -1, -1)
