"""The interface of query initialisers."""

from __future__ import annotations

from torch import Tensor, nn

from ..structures import FeaturePyramid, Proposals, Queries


class QueryInitializer(nn.Module):
    """Makes the decoder's queries from the encoder's memory."""

    def forward(self, memory: FeaturePyramid) -> tuple[Queries, Proposals | None]:
        """Return the queries, and the proposals they were chosen from if there are any."""
        raise NotImplementedError

    def fresh(self) -> QueryInitializer:
        """Another one of the same kind and size, with initial weights of its own."""
        raise NotImplementedError

    def positions(self, reference_BN4: Tensor) -> Tensor:  # noqa: ARG002
        """Position embeddings (B, N, C) of queries that start from the given boxes.

        Raises:
            ValueError: queries of this kind do not start from boxes.
        """
        raise ValueError(
            f"{type(self).__name__} makes no queries around given boxes; a source that does needs "
            f"queries whose positions follow from boxes, such as TwoStageQueries"
        )
