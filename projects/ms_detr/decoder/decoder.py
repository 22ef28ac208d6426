"""The stack of decoder layers."""

from __future__ import annotations

import copy

from torch import nn

from ..heads import PredictionHeads
from ..layers import reset_transformer_parameters
from ..structures import DecoderStates, FeaturePyramid, Queries
from .conditional_position import ConditionalPosition
from .layers import DecoderLayer
from .position import GivenPosition, QueryPosition
from .refine import References, Refinement


class Decoder(nn.Module):
    """Run the queries through equal layers, moving their reference boxes on the way.

    Args:
        layer: the layer to repeat; it is copied, then each copy gets its own initialisation.
        num_layers: number of layers, at least 1.
        refinement: how references move from layer to layer.
        position: makes the position embeddings of the queries at every layer; None: the queries
            bring them.

    Raises:
        ValueError: no layer, or positions of a kind that the layer does not take.
    """

    def __init__(
        self,
        *,
        layer: DecoderLayer,
        num_layers: int = 6,
        refinement: Refinement,
        position: QueryPosition | ConditionalPosition | None = None,
    ):
        super().__init__()
        if num_layers < 1:
            raise ValueError(f"a decoder needs at least 1 layer, got num_layers={num_layers}")
        position = GivenPosition() if position is None else position
        if not isinstance(position, layer.position_kind):
            raise ValueError(
                f"{type(layer).__name__} takes a {layer.position_kind.__name__}, but "
                f"model.decoder.position is a {type(position).__name__}; change either"
            )
        self.layers = nn.ModuleList(copy.deepcopy(layer) for _ in range(num_layers))
        self.refinement = refinement
        self.position = position
        reset_transformer_parameters(self)

    def forward(
        self, queries: Queries, memory: FeaturePyramid, heads: PredictionHeads
    ) -> DecoderStates:
        """Decode; ``heads`` has the box heads that the refinement may need between two layers."""
        query = queries.content_BNC
        reference = References(queries.reference_BNr, queries.reference_BNr)
        outputs, internals, references = [], [], []
        for index, layer in enumerate(self.layers):
            if index:
                reference = self.refinement(query, reference.attention, heads.box_heads, index - 1)
            pos = self.position(queries, query, reference.attention, index)
            query, internal = layer(query, pos, reference.attention, memory, queries.groups)
            outputs.append(query)
            internals.append(internal)
            references.append(reference.prediction)
        return DecoderStates(
            taps={"output": tuple(outputs), "internal": tuple(internals)},
            references=tuple(references),
            groups=queries.groups,
        )
