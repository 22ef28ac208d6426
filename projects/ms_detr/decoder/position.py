"""Where the queries are: their position embeddings at every layer.

The decoder asks its position anew at every layer, because references move and states change.
"""

from __future__ import annotations

from torch import Tensor, nn

from ..layers import MLP, reference_features
from ..structures import Queries


class QueryPosition(nn.Module):
    """Rule by which the position embeddings of a layer are made."""

    def forward(
        self, queries: Queries, states_BNC: Tensor, reference_BNr: Tensor, layer: int
    ) -> Tensor:
        """Position embeddings (B, N, C), added to queries and keys in every attention.

        Args:
            queries: what the decoder started from.
            states_BNC: states that the layer starts from.
            reference_BNr: what it attends around.
            layer: its index.
        """
        raise NotImplementedError


class GivenPosition(QueryPosition):
    """Positions that come with the queries and stay the same (Deformable DETR)."""

    def forward(
        self, queries: Queries, states_BNC: Tensor, reference_BNr: Tensor, layer: int
    ) -> Tensor:
        return given_position(queries)


class AnchorEmbedding(nn.Module):
    """Sine features of a box (y, x, w, h), then a two-layer perceptron (DAB-DETR, section 4.1).

    Args:
        embed_dim: channels.
        temperature: of the sine features.  The published code of DAB-DETR and DINO has 10000 here,
            and 20 only for the positions of the tokens.
    """

    def __init__(self, embed_dim: int, temperature: float):
        super().__init__()
        self.embed_dim, self.temperature = embed_dim, temperature
        self.mlp = MLP([2 * embed_dim, embed_dim, embed_dim])

    def forward(self, reference_BN4: Tensor) -> Tensor:
        if reference_BN4.shape[-1] != 4:
            raise ValueError(
                f"positions are made from reference boxes, but the references have "
                f"{reference_BN4.shape[-1]} coordinates; use queries with boxes, for example "
                f"ms_detr.queries.AnchorQueries, or ms_detr.decoder.GivenPosition"
            )
        return self.mlp(reference_features(reference_BN4, self.embed_dim // 2, self.temperature))


class ReferencePosition(QueryPosition):
    """Positions made from the reference box of each layer, the same way in all (DINO).

    Args:
        embed_dim: channels.
        temperature: see :class:`AnchorEmbedding`.
    """

    def __init__(self, *, embed_dim: int = 256, temperature: float = 10000.0):
        super().__init__()
        self.embedding = AnchorEmbedding(embed_dim, temperature)

    def forward(
        self, queries: Queries, states_BNC: Tensor, reference_BNr: Tensor, layer: int
    ) -> Tensor:
        return self.embedding(reference_BNr)


class ScaledReferencePosition(ReferencePosition):
    """The same, scaled channel by channel by the query's state, as DAB-Deformable-DETR has it.

    The first layer's positions are not scaled: its states know nothing of the image.

    Args:
        embed_dim, temperature: see :class:`ReferencePosition`.
    """

    def __init__(self, *, embed_dim: int = 256, temperature: float = 10000.0):
        super().__init__(embed_dim=embed_dim, temperature=temperature)
        self.scale = MLP([embed_dim, embed_dim, embed_dim])

    def forward(
        self, queries: Queries, states_BNC: Tensor, reference_BNr: Tensor, layer: int
    ) -> Tensor:
        pos_BNC = super().forward(queries, states_BNC, reference_BNr, layer)
        return pos_BNC if layer == 0 else pos_BNC * self.scale(states_BNC)


def given_position(queries: Queries) -> Tensor:
    """Position embeddings (B, N, C) of queries that have some.

    Raises:
        ValueError: they have none.
    """
    if queries.pos_BNC is None:
        raise ValueError(
            "these queries have no position embeddings; make them from the references, for example "
            "with model.decoder.position={_target_: ms_detr.decoder.ReferencePosition}"
        )
    return queries.pos_BNC
