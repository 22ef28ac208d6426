"""Two-stage queries: the best proposals of the encoder become the decoder's references."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from ..layers import sine_features
from ..structures import FeaturePyramid, Proposals, Queries
from .initializer import QueryInitializer
from .proposals import EncoderProposals


class ProposalQueries(QueryInitializer):
    """References are the boxes of the encoder's best proposals.

    An image with fewer tokens than queries gets as many queries as it has tokens.

    Args:
        proposals: the first stage.
        num_queries: queries per image.
        embed_dim: channels.
    """

    starts_from_boxes = True

    def __init__(
        self, *, proposals: EncoderProposals, num_queries: int = 300, embed_dim: int = 256
    ):
        super().__init__()
        if num_queries < 1:
            raise ValueError(f"num_queries must be at least 1, got {num_queries}")
        self.proposals = proposals
        self.num_queries = num_queries
        self.embed_dim = embed_dim

    def forward(self, memory: FeaturePyramid) -> tuple[Queries, Proposals]:
        proposals = self.proposals(memory)
        chosen_BN = self.ranked(proposals, 0, self.num_queries)
        queries = self.started_from(_boxes(proposals, chosen_BN))
        return queries, replace(proposals, chosen_BN=chosen_BN)

    def started_from(self, reference_BN4: Tensor) -> Queries:
        """The primary queries, given the boxes of the chosen proposals."""
        queries = self.around(reference_BN4)
        return replace(queries, content_BNC=self.contents(queries.content_BNC))

    def ranked(self, proposals: Proposals, first: int, count: int) -> Tensor:
        """Tokens (B, N) of a part of each image's best proposals, best first.

        Args:
            proposals: of all tokens.
            first: how many of the best to leave out.
            count: how many to take after these; fewer come if the image has fewer tokens.
        """
        scores_BS = self.scores(proposals.logits_BSK.detach())
        return best_tokens(scores_BS, proposals.valid_BS, first + count)[:, first:]

    def queries_of(self, proposals: Proposals, token_BN: Tensor) -> Queries:
        """Queries around the boxes that the tokens propose; contents follow from the boxes."""
        return self.around(_boxes(proposals, token_BN))

    def scores(self, logits_BSK: Tensor) -> Tensor:
        """What proposals are ranked by (B, S), largest first."""
        return logits_BSK[..., 0]

    def contents(self, proposed_BNC: Tensor) -> Tensor:
        """Contents of the primary queries, given those that follow from the proposed boxes."""
        raise NotImplementedError


class TwoStageQueries(ProposalQueries):
    """References, positions and contents come from the best proposals (Deformable DETR, A.4.3).

    Args:
        proposals, num_queries, embed_dim: see :class:`ProposalQueries`.
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
        super().__init__(proposals=proposals, num_queries=num_queries, embed_dim=embed_dim)
        self.temperature = temperature
        self.projection = nn.Linear(2 * embed_dim, 2 * embed_dim)
        self.norm = nn.LayerNorm(2 * embed_dim)
        nn.init.xavier_uniform_(self.projection.weight)

    def around(self, reference_BN4: Tensor) -> Queries:
        features = sine_features(reference_BN4, self.embed_dim // 2, self.temperature).flatten(-2)
        features = self.norm(self.projection(features.to(self.projection.weight.dtype)))
        pos, content = features.chunk(2, dim=-1)
        return Queries(content, pos, reference_BN4)

    def contents(self, proposed_BNC: Tensor) -> Tensor:
        return proposed_BNC

    def fresh(self) -> TwoStageQueries:
        return type(self)(
            proposals=self.proposals.fresh(),
            num_queries=self.num_queries,
            embed_dim=self.embed_dim,
            temperature=self.temperature,
        )


class MixedSelectionQueries(TwoStageQueries):
    """Mixed query selection as H-DETR has it: positions from proposals, contents learned."""

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

    def contents(self, proposed_BNC: Tensor) -> Tensor:
        return first_rows(self.content, proposed_BNC)


def best_tokens(scores_BS: Tensor, valid_BS: Tensor, count: int) -> Tensor:
    """Tokens (B, N) with the best scores, best first; fewer if an image has fewer tokens.

    A token that is not valid comes last, and only when there is nothing else.
    """
    scores_BS = scores_BS.masked_fill(~valid_BS, -float("inf"))
    return scores_BS.topk(min(count, scores_BS.shape[1]))[1]


def _boxes(proposals: Proposals, token_BN: Tensor) -> Tensor:
    """Boxes (B, N, 4) that tokens propose; no gradient flows back."""
    return proposals.boxes_BS4.detach().gather(1, token_BN[..., None].expand(-1, -1, 4))


def first_rows(embedding: nn.Embedding, like_BNC: Tensor) -> Tensor:
    """The first N rows of an embedding, the same for all images: (B, N, C)."""
    images, count, _ = like_BNC.shape
    return embedding.weight[:count].expand(images, -1, -1)
