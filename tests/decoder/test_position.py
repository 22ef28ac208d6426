"""Position embeddings of the queries: from the queries, or from the references of each layer."""

import pytest
import torch

from ms_detr.decoder import (
    ConditionalPosition,
    ConditionalSelfCrossLayer,
    Decoder,
    DetachedRefinement,
    FixedReference,
    GivenPosition,
    QueryPosition,
    ReferencePosition,
    ScaledReferencePosition,
    SelfCrossLayer,
)
from ms_detr.heads import PredictionHeads
from ms_detr.layers import sine_features
from ms_detr.structures import FeaturePyramid, Queries, padding_mask


def queries(r=4, pos=True):
    torch.manual_seed(0)
    content, given, reference = torch.randn(2, 5, 8), torch.randn(2, 5, 8), torch.rand(2, 5, r)
    return Queries(content, given if pos else None, reference)


def made(cls, **options):
    torch.manual_seed(1)
    return cls(embed_dim=8, **options)


def test_given_positions_are_those_of_the_queries():
    given = queries()
    for layer in (0, 1):
        result = GivenPosition()(given, torch.randn(2, 5, 8), torch.rand(2, 5, 4), layer)
        assert result is given.pos_BNC


def test_queries_without_positions_need_them_made():
    without = queries(pos=False)
    with pytest.raises(ValueError, match="no position embeddings.*decoder.position={_target_"):
        GivenPosition()(without, without.content_BNC, without.reference_BNr, 0)


def test_reference_position_is_a_perceptron_of_sine_features():
    position = made(ReferencePosition, temperature=20.0)
    reference = torch.rand(2, 5, 4)
    cx, cy, w, h = (sine_features(x, 4, 20.0) for x in reference.unbind(-1))
    first, second = position.embedding.mlp.layers
    expected = second(torch.relu(first(torch.cat([cy, cx, w, h], -1))))
    for layer in (0, 1):
        result = position(queries(pos=False), torch.randn(2, 5, 8), reference, layer)
        torch.testing.assert_close(result, expected)


def test_scaled_position_depends_on_the_state_after_the_first_layer():
    plain, scaled = made(ReferencePosition), made(ScaledReferencePosition)
    reference, states = torch.rand(2, 5, 4), torch.randn(2, 5, 8)
    first, second = (scaled(queries(), states, reference, layer) for layer in (0, 1))
    torch.testing.assert_close(first, plain(queries(), states, reference, 0))
    torch.testing.assert_close(second, first * scaled.scale(states))


def test_reference_points_are_refused():
    with pytest.raises(ValueError, match="have 2 coordinates; use queries with boxes"):
        made(ReferencePosition)(queries(), torch.randn(2, 5, 8), torch.rand(2, 5, 2), 0)


def layer(cls, **options):
    return cls(embed_dim=8, feedforward_dim=16, dropout=0.0, num_heads=2, **options)


@pytest.mark.parametrize(
    "cls, position, kind",
    [
        (SelfCrossLayer, made(ConditionalPosition), "QueryPosition"),
        (ConditionalSelfCrossLayer, made(ReferencePosition), "ConditionalPosition"),
        (ConditionalSelfCrossLayer, None, "ConditionalPosition"),
    ],
)
def test_positions_must_fit_the_layer(cls, position, kind):
    found = type(position or GivenPosition()).__name__
    message = f"{cls.__name__} takes a {kind}, but model.decoder.position is a {found}"
    with pytest.raises(ValueError, match=message):
        Decoder(layer=layer(cls), refinement=FixedReference(), position=position)


class Recorded(QueryPosition):
    """Notes what the decoder asks."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def forward(self, queries, states_BNC, reference_BNr, layer):
        self.asked.append((states_BNC, reference_BNr, layer))
        return torch.zeros_like(states_BNC)


def test_the_decoder_asks_at_every_layer_with_its_state_and_reference():
    position, start = Recorded(), queries()
    deformable = layer(SelfCrossLayer, num_levels=1, num_points=2)
    decoder = Decoder(
        layer=deformable, num_layers=3, refinement=DetachedRefinement(), position=position
    )
    heads = PredictionHeads(embed_dim=8, num_classes=2, num_layers=3)
    for head in heads.box_heads:
        torch.nn.init.normal_(head.layers[-1].weight)
    memory = FeaturePyramid.from_maps(
        [torch.randn(2, 8, 3, 4)],
        padding_mask([(24, 32), (24, 32)], torch.zeros(2, 3, 24, 32)),
        lambda _, valid, shape, dtype: torch.zeros(len(valid), 12, 8),
    )
    states = decoder(start, memory, heads)
    asked_states, references, layers = zip(*position.asked)
    assert layers == (0, 1, 2)
    wanted = [start.content_BNC, *states.taps["output"][:2]]
    assert all(map(torch.equal, asked_states, wanted))
    assert all(map(torch.equal, references, states.references))
    assert not torch.equal(references[0], references[1])
