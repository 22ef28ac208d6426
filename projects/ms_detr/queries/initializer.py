"""The interface of query initialisers."""

from __future__ import annotations

from torch import Tensor, nn

from ..structures import FeaturePyramid, Proposals, Queries


class QueryInitializer(nn.Module):
    """Makes the decoder's queries from the encoder's memory.

    Attributes:
        starts_from_boxes: whether references are boxes, not points.
        brings_positions: whether queries have positions, or leave these to the decoder.
    """

    starts_from_boxes = False
    brings_positions = True

    def forward(self, memory: FeaturePyramid) -> tuple[Queries, Proposals | None]:
        """Return the queries, and the proposals they were chosen from if there are any."""
        raise NotImplementedError

    def fresh(self) -> QueryInitializer:
        """Another one of the same kind and size, with initial weights of its own."""
        raise NotImplementedError

    def around(self, reference_BN4: Tensor) -> Queries:
        """Queries that start from the given boxes, if ``starts_from_boxes``.

        Their contents follow from the boxes, or are zero if nothing follows; who asks has others.
        """
        raise NotImplementedError


class EmbeddedQueries(QueryInitializer):
    """Every query is a learned vector; a layer that all queries share makes its reference point.

    Attributes:
        embedding: the vectors of the queries.
    """

    embedding: nn.Embedding

    def of(self, embedding: nn.Embedding, memory: FeaturePyramid) -> Queries:
        """Queries of other vectors, with the layer of this initialiser."""
        raise NotImplementedError

    def fresh(self) -> EmbeddedQueries:
        raise NotImplementedError
