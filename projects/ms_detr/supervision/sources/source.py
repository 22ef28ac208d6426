"""The interface of query sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from ...queries import QueryInitializer
from ...structures import Assignment, FeaturePyramid, Proposals, Queries, Targets
from ...structures.query_groups import PRIMARY, QueryGroup
from ..auxiliary import AuxiliaryMaps


@dataclass(frozen=True)
class SourceContext:
    """What a source may look at.

    Attributes:
        memory: the encoder's output.
        targets: objects of the batch.
        initializer: what made the primary queries.
        primary: the primary queries.
        proposals: what these were chosen from, if they were.
        sizes: (height, width) of every image without padding, in pixels.
        pyramid: the memory as maps for auxiliary heads, if a source reads them.
    """

    memory: FeaturePyramid
    targets: Targets
    initializer: QueryInitializer
    primary: Queries
    proposals: Proposals | None
    sizes: tuple[tuple[int, int], ...]
    pyramid: AuxiliaryMaps | None = None


@dataclass(frozen=True)
class ExtraQueries:
    """Queries that exist in training only.

    Attributes:
        queries: the queries; there may be none.
        blocks: equal, consecutive parts of them that do not see each other in self-attention.
        sees: other groups that they see; see :class:`ms_detr.structures.query_groups.QueryGroup`.
        proposals: what they were chosen from, if that was not what the primary ones were.
        known: who answers what, if that needs no assigner.
        counted_BN: see :class:`ms_detr.structures.LayerPredictions`.
        losses: weighted scalars by term, of what the source itself teaches the encoder.
    """

    queries: Queries
    blocks: int = 1
    sees: tuple[str, ...] = ()
    proposals: Proposals | None = None
    known: Assignment | None = None
    counted_BN: Tensor | None = None
    losses: Mapping[str, Tensor] = field(default_factory=dict)


class QuerySource(nn.Module):
    """Makes the queries of one supervision, in training only.

    Its parameters belong to the supervision and leave with it.

    Attributes:
        knows: whether its queries come with known pairs, so that no assigner is needed.
        reads_maps: whether it looks at ``SourceContext.pyramid``.
    """

    knows = False
    reads_maps = False

    def check_fit(
        self, key: str, num_classes: int, num_layers: int, queries: QueryInitializer
    ) -> None:
        """Compares the source with the detector.

        Args:
            key: of the source in the config.
            num_classes: classes that the detector tells apart.
            num_layers: layers of its decoder.
            queries: what makes the detector's queries.

        Raises:
            ValueError: they do not go together.
        """

    def forward(self, context: SourceContext) -> ExtraQueries:
        """Make queries for this batch; also without objects, so that no parameter is left out."""
        raise NotImplementedError


def joined(primary: Queries, extra: Mapping[str, ExtraQueries]) -> Queries:
    """The primary queries, then those of every source, in one row.

    Raises:
        ValueError: some start from boxes and others from points, or some have positions and others
            leave them to the decoder.
    """
    if not extra:
        return primary
    groups = [QueryGroup(PRIMARY, primary.content_BNC.shape[1])]
    for name, more in extra.items():
        _check_alike(name, more.queries, primary)
        size = more.queries.content_BNC.shape[1]
        groups.append(QueryGroup(name, size, more.blocks, more.sees))
    parts = [primary, *(more.queries for more in extra.values())]
    return replace(in_one_row(parts), groups=tuple(groups))


def in_one_row(parts: Sequence[Queries]) -> Queries:
    """Queries of the same kind, one after the other."""
    positions = [part.pos_BNC for part in parts if part.pos_BNC is not None]
    return Queries(
        content_BNC=torch.cat([part.content_BNC for part in parts], 1),
        pos_BNC=torch.cat(positions, 1) if positions else None,
        reference_BNr=torch.cat([part.reference_BNr for part in parts], 1),
    )


def _check_alike(name: str, queries: Queries, primary: Queries) -> None:
    ours, theirs = queries.reference_BNr.shape[-1], primary.reference_BNr.shape[-1]
    if ours != theirs:
        raise ValueError(
            f"the queries of model.supervisions.{name}.source start from references of {ours} "
            f"numbers, the detector's from {theirs}; both must be boxes (4) or points (2)"
        )
    if (queries.pos_BNC is None) != (primary.pos_BNC is None):
        has, lacks = "the detector's", f"those of model.supervisions.{name}.source"
        if primary.pos_BNC is None:
            has, lacks = lacks, has
        raise ValueError(
            f"{has} queries bring position embeddings, {lacks} leave them to the decoder; use the "
            f"same class of queries for both"
        )
