"""The interface of query initialisers."""

from __future__ import annotations

from torch import nn

from ..structures import FeaturePyramid, Proposals, Queries


class QueryInitializer(nn.Module):
    """Makes the decoder's queries from the encoder's memory."""

    def forward(self, memory: FeaturePyramid) -> tuple[Queries, Proposals | None]:
        """Return the queries, and the proposals they were chosen from if there are any."""
        raise NotImplementedError
