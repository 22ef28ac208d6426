"""Queries from initialisers of the supervision's own."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from ...arguments import require_kind, require_whole
from ...queries import EmbeddedQueries, QueryInitializer
from ...registry import SOURCES
from ...structures import Proposals
from .source import ExtraQueries, QuerySource, SourceContext, in_one_row


@SOURCES.register()
class OwnQueries(QuerySource):
    """Groups of queries beside the primary ones, each with an initialiser of its own.

    The groups are blocks that do not see each other.  With learned anchors this is what Group DETR
    adds (section 3.2), or one group for the one-to-many queries of a one-stage H-DETR; for learned
    vectors see :class:`OwnEmbeddings`.  With two-stage queries every group has its own first stage,
    as in LW-DETR; its proposals are taught by a ``ProposalSupervision`` with ``group`` set to the
    name of this supervision.

    Args:
        queries: initialiser of a group; in a config ``"${....queries}"`` stands for one like that
            of the primary queries.
        blocks: number of groups, each with a copy of the initialiser.
    """

    def __init__(self, *, queries: QueryInitializer, blocks: int = 1):
        super().__init__()
        mend = 'write queries="${....queries}" or {_target_: ms_detr.queries.LearnedQueries, ...}'
        require_kind("queries of OwnQueries", queries, QueryInitializer, mend)
        require_whole("blocks of OwnQueries", blocks)
        more = (queries.fresh() for _ in range(blocks - 1))
        self.initializers = nn.ModuleList([queries, *more])

    def forward(self, context: SourceContext) -> ExtraQueries:
        made = [initializer(context.memory) for initializer in self.initializers]
        proposals = [found for _, found in made if found is not None]
        return ExtraQueries(
            in_one_row([queries for queries, _ in made]),
            blocks=len(made),
            proposals=_in_one_row(proposals) if proposals else None,
        )


@SOURCES.register()
class OwnEmbeddings(QuerySource):
    """The same for learned queries, whose reference points the layer of the primary ones makes.

    One-stage queries of the published Group DETR and H-DETR have vectors of their own and share
    that layer.

    Args:
        queries: initialiser of a group, of the class of the primary queries; only its vectors are
            kept.
        blocks: number of groups.
    """

    def __init__(self, *, queries: EmbeddedQueries, blocks: int = 1):
        super().__init__()
        mend = "write queries={_target_: ms_detr.queries.LearnedQueries, ...}, or use OwnQueries"
        require_kind("queries of OwnEmbeddings", queries, EmbeddedQueries, mend)
        require_whole("blocks of OwnEmbeddings", blocks)
        self.kind = type(queries)
        more = (queries.fresh().embedding for _ in range(blocks - 1))
        self.embeddings = nn.ModuleList([queries.embedding, *more])

    def check_fit(
        self,
        key: str,
        num_classes: int,  # noqa: ARG002
        num_layers: int,  # noqa: ARG002
        queries: QueryInitializer,
    ) -> None:
        if not isinstance(queries, self.kind):
            raise ValueError(
                f"{key} has vectors for {self.kind.__name__}, but model.queries is "
                f"{type(queries).__name__}; make them equal, or use OwnQueries"
            )

    def forward(self, context: SourceContext) -> ExtraQueries:
        primary = cast(EmbeddedQueries, context.initializer)
        made = [
            primary.of(cast(nn.Embedding, embedding), context.memory)
            for embedding in self.embeddings
        ]
        return ExtraQueries(in_one_row(made), blocks=len(made))


def _in_one_row(proposals: list[Proposals]) -> Proposals:
    """The proposals of all blocks, block after block."""
    tokens = proposals[0].logits_BSK.shape[1]
    chosen = [
        found.chosen_BN + block * tokens
        for block, found in enumerate(proposals)
        if found.chosen_BN is not None
    ]
    return Proposals(
        logits_BSK=torch.cat([found.logits_BSK for found in proposals], 1),
        boxes_BS4=torch.cat([found.boxes_BS4 for found in proposals], 1),
        anchors_BS4=torch.cat([found.anchors_BS4 for found in proposals], 1),
        valid_BS=torch.cat([found.valid_BS for found in proposals], 1),
        blocks=len(proposals),
        chosen_BN=torch.cat(chosen, 1),
    )
