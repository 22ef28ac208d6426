"""The queries of DINO."""

from __future__ import annotations

from torch import Tensor, nn

from ..structures import Queries
from .proposals import EncoderProposals
from .two_stage import ProposalQueries, first_rows


class DINOQueries(ProposalQueries):
    """Mixed query selection (DINO, section 3.4): boxes from proposals, contents learned.

    Proposals have a score for every class, and are ranked by their best.  Positions are left to the
    decoder, which makes them from the references (:class:`ms_detr.decoder.ReferencePosition`).

    Args:
        proposals: the first stage; with as many outputs as classes.
        num_queries: queries per image.
        embed_dim: channels.
    """

    brings_positions = False

    def __init__(
        self, *, proposals: EncoderProposals, num_queries: int = 900, embed_dim: int = 256
    ):
        super().__init__(proposals=proposals, num_queries=num_queries, embed_dim=embed_dim)
        self.content = nn.Embedding(num_queries, embed_dim)
        # As the released code; H-DETR's are normally distributed.
        nn.init.xavier_uniform_(self.content.weight)

    def scores(self, logits_BSK: Tensor) -> Tensor:
        return logits_BSK.amax(-1)

    def around(self, reference_BN4: Tensor) -> Queries:
        nothing = reference_BN4.new_zeros(*reference_BN4.shape[:2], self.embed_dim)
        return Queries(nothing, None, reference_BN4)

    def contents(self, proposed_BNC: Tensor) -> Tensor:
        return first_rows(self.content, proposed_BNC)

    def fresh(self) -> DINOQueries:
        return type(self)(
            proposals=self.proposals.fresh(),
            num_queries=self.num_queries,
            embed_dim=self.embed_dim,
        )
