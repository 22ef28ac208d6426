"""Queries from the proposals that follow those of the primary queries."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from torch import nn

from ...arguments import require_whole
from ...queries import ProposalQueries, QueryInitializer, first_rows
from ...registry import SOURCES
from ...structures import Proposals, Queries
from .source import ExtraQueries, QuerySource, SourceContext


@SOURCES.register()
class NextProposals(QuerySource):
    """The next best proposals of the primary queries' first stage (H-DETR, one-to-many queries).

    With 300 primary queries and ``num_queries=1500`` these are the proposals 301 to 1800 of each
    image.  An image with fewer tokens gets fewer queries.

    Args:
        num_queries: queries per image, at least 1.
    """

    def __init__(self, *, num_queries: int = 1500):
        super().__init__()
        require_whole(f"num_queries of {type(self).__name__}", num_queries)
        self.num_queries = num_queries

    def check_fit(
        self,
        key: str,
        num_classes: int,  # noqa: ARG002
        num_layers: int,  # noqa: ARG002
        queries: QueryInitializer,
    ) -> None:
        if not isinstance(queries, ProposalQueries):
            raise ValueError(
                f"{key} continues the ranking of two-stage queries, but model.queries is "
                f"{type(queries).__name__}, which has none; use OwnQueries or OwnEmbeddings"
            )

    def forward(self, context: SourceContext) -> ExtraQueries:
        initializer = cast(ProposalQueries, context.initializer)
        proposals = cast(Proposals, context.proposals)
        first = context.primary.content_BNC.shape[1]
        tokens_BN = initializer.ranked(proposals, first, self.num_queries)
        queries = initializer.queries_of(proposals, tokens_BN)
        return ExtraQueries(self._with_contents(queries))

    def _with_contents(self, queries: Queries) -> Queries:
        return queries


@SOURCES.register()
class NextMixedProposals(NextProposals):
    """The same with learned contents, beside ``MixedSelectionQueries`` and ``DINOQueries``.

    Args:
        num_queries: queries per image, at least 1.
        embed_dim: channels.
    """

    def __init__(self, *, num_queries: int = 1500, embed_dim: int = 256):
        super().__init__(num_queries=num_queries)
        self.content = nn.Embedding(num_queries, embed_dim)

    def _with_contents(self, queries: Queries) -> Queries:
        return replace(queries, content_BNC=first_rows(self.content, queries.content_BNC))
