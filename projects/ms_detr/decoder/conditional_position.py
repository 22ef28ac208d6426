"""Where the queries are, for layers with conditional cross-attention."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..layers import MLP, reference_features
from ..structures import Queries
from .position import AnchorEmbedding, given_position


class ConditionalPlaces(NamedTuple):
    """Places of the queries (B, N, C) at one layer.

    Attributes:
        pos: added, projected, to queries and keys of the self-attention.
        spatial: the spatial queries, compared with the positions of the tokens.
        start: added to the content queries of the cross-attention, as DETR does; the first layer
            only, None in the others.
    """

    pos: Tensor
    spatial: Tensor
    start: Tensor | None


class ConditionalPosition(nn.Module):
    """Spatial queries from the reference point and the query's state (Conditional DETR, 3.3).

    They are sine features of the point, scaled channel by channel by a perceptron of the state; not
    scaled in the first layer.  The queries bring the positions for the self-attention.

    Args:
        embed_dim: channels.
        temperature: of the sine features.
    """

    def __init__(self, *, embed_dim: int = 256, temperature: float = 10000.0):
        super().__init__()
        self.embed_dim, self.temperature = embed_dim, temperature
        self.start = nn.Linear(embed_dim, embed_dim)
        self.scale = MLP([embed_dim, embed_dim, embed_dim])

    def forward(
        self, queries: Queries, states_BNC: Tensor, reference_BNr: Tensor, layer: int
    ) -> ConditionalPlaces:
        """Places at a layer; arguments as in :class:`ms_detr.decoder.QueryPosition`."""
        pos = self.position(queries, reference_BNr)
        spatial = self.spatial(states_BNC, reference_BNr)
        if layer == 0:
            return ConditionalPlaces(pos, spatial, self.start(pos))
        return ConditionalPlaces(pos, spatial * self.scale(states_BNC), None)

    def position(self, queries: Queries, reference_BNr: Tensor) -> Tensor:
        """Positions (B, N, C) for the self-attention."""
        return given_position(queries)

    def spatial(self, states_BNC: Tensor, reference_BNr: Tensor) -> Tensor:
        """Spatial queries (B, N, C) before they are scaled."""
        return reference_features(reference_BNr[..., :2], self.embed_dim // 2, self.temperature)


class AnchorPosition(ConditionalPosition):
    """The same with positions made from the reference box of each layer (DAB-DETR, 4.2).

    Args:
        embed_dim, temperature: see :class:`ConditionalPosition`.
    """

    def __init__(self, *, embed_dim: int = 256, temperature: float = 10000.0):
        super().__init__(embed_dim=embed_dim, temperature=temperature)
        self.embedding = AnchorEmbedding(embed_dim, temperature)

    def position(self, queries: Queries, reference_BNr: Tensor) -> Tensor:
        return self.embedding(reference_BNr)


class ModulatedAnchorPosition(AnchorPosition):
    """The same with attention as wide and high as the box: DAB-DETR (4.3, equation 6).

    The half of a spatial query that belongs to an axis is multiplied by the extent that the state
    asks for, in (0, 1), over the extent of the reference box.

    Args:
        embed_dim, temperature: see :class:`ConditionalPosition`.
    """

    def __init__(self, *, embed_dim: int = 256, temperature: float = 10000.0):
        super().__init__(embed_dim=embed_dim, temperature=temperature)
        self.extent = MLP([embed_dim, embed_dim, 2])

    def spatial(self, states_BNC: Tensor, reference_BNr: Tensor) -> Tensor:
        y, x = super().spatial(states_BNC, reference_BNr).chunk(2, dim=-1)
        wanted = self.extent(states_BNC).to(reference_BNr.dtype).sigmoid()
        across, down = (wanted / reference_BNr[..., 2:]).split(1, dim=-1)
        return torch.cat([y * down, x * across], -1)
