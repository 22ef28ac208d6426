"""The interface of query sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...queries import QueryInitializer
from ...query_groups import PRIMARY, QueryGroup
from ...structures import Assignment, FeaturePyramid, Proposals, Queries, Targets


@dataclass(frozen=True)
class SourceContext:
    """What a source may look at.

    Attributes:
        memory: the encoder's output.
        targets: objects of the batch.
        initializer: what made the primary queries.
        primary: the primary queries.
        proposals: what these were chosen from, if they were.
    """

    memory: FeaturePyramid
    targets: Targets
    initializer: QueryInitializer
    primary: Queries
    proposals: Proposals | None


@dataclass(frozen=True)
class ExtraQueries:
    """Queries that exist in training only.

    Attributes:
        queries: the queries; there may be none.
        blocks: equal, consecutive parts of them that do not see each other in self-attention.
        sees: other groups that they see; see :class:`ms_detr.query_groups.QueryGroup`.
        proposals: what they were chosen from, if that was not what the primary ones were.
        known: who answers what, if that needs no assigner.
        counted_BN: see :class:`ms_detr.structures.LayerPredictions`.
    """

    queries: Queries
    blocks: int = 1
    sees: tuple[str, ...] = ()
    proposals: Proposals | None = None
    known: Assignment | None = None
    counted_BN: Tensor | None = None


class QuerySource(nn.Module):
    """Makes the queries of one supervision, in training only.

    Its parameters belong to the supervision and leave with it.

    Attributes:
        knows: whether its queries come with known pairs, so that no assigner is needed.
    """

    knows = False

    def forward(self, context: SourceContext) -> ExtraQueries:
        """Make queries for this batch; also without objects, so that no parameter is left out."""
        raise NotImplementedError


def joined(primary: Queries, extra: Mapping[str, ExtraQueries]) -> Queries:
    """The primary queries, then those of every source, in one row."""
    if not extra:
        return primary
    parts = [primary, *(more.queries for more in extra.values())]
    groups = [QueryGroup(PRIMARY, primary.content_BNC.shape[1])]
    for name, more in extra.items():
        groups.append(QueryGroup(name, more.queries.content_BNC.shape[1], more.blocks, more.sees))
        if more.queries.reference_BNr.shape[-1] != primary.reference_BNr.shape[-1]:
            raise ValueError(
                f"the queries of model.supervisions.{name}.source start from references of "
                f"{more.queries.reference_BNr.shape[-1]} numbers, the detector's from "
                f"{primary.reference_BNr.shape[-1]}; both must be boxes (4) or points (2)"
            )
    return Queries(
        content_BNC=torch.cat([part.content_BNC for part in parts], 1),
        pos_BNC=torch.cat([part.pos_BNC for part in parts], 1),
        reference_BNr=torch.cat([part.reference_BNr for part in parts], 1),
        groups=tuple(groups),
    )
