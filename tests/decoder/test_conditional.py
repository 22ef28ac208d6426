"""Conditional decoder layers and the places of their queries."""

import pytest
import torch

from ms_detr.decoder import (
    AnchorPosition,
    ConditionalCrossSelfLayer,
    ConditionalPlaces,
    ConditionalPosition,
    ConditionalSelfCrossLayer,
    ModulatedAnchorPosition,
)
from ms_detr.layers import sine_features
from ms_detr.structures import FeaturePyramid, Queries, padding_mask

LAYERS = [ConditionalSelfCrossLayer, ConditionalCrossSelfLayer]


@pytest.fixture
def memory():
    torch.manual_seed(0)
    return FeaturePyramid.from_maps(
        [torch.randn(1, 16, 4, 4)],
        padding_mask([(16, 16)], torch.zeros(1, 3, 16, 16)),
        lambda _, valid, shape, dtype: torch.randn(1, 16, 16),
    )


def made(cls, **options):
    torch.manual_seed(1)
    return cls(embed_dim=16, **options).eval()


def layer(cls):
    return made(cls, feedforward_dim=32, dropout=0.0, num_heads=2)


def places():
    return ConditionalPlaces(torch.randn(1, 5, 16), torch.randn(1, 5, 16), None)


def changed(cls, memory, query=0):
    """Which queries' states change, (internal, output), when the content of one changes."""
    content, where = torch.randn(1, 5, 16), places()
    other = content.clone()
    other[0, query] = torch.randn(16)
    before = layer(cls)(content, where, torch.rand(1, 5, 4), memory)
    after = layer(cls)(other, where, torch.rand(1, 5, 4), memory)
    moved = [(a - b).abs().amax(-1)[0] > 1e-6 for a, b in zip(before, after)]
    return moved[1].tolist(), moved[0].tolist()


def test_order_of_the_attentions(memory):
    internal, output = changed(ConditionalCrossSelfLayer, memory)
    assert internal == [True, False, False, False, False] and all(output)
    internal, output = changed(ConditionalSelfCrossLayer, memory)
    assert all(internal) and all(output)


@pytest.mark.parametrize("cls, tap_reads", [(LAYERS[0], False), (LAYERS[1], True)])
def test_where_the_image_is_read(cls, tap_reads, memory):
    content, where, reference = torch.randn(1, 5, 16), places(), torch.rand(1, 5, 2)
    black = memory.with_tokens(torch.zeros_like(memory.tokens_BSC))
    first, second = (layer(cls)(content, where, reference, m) for m in (memory, black))
    assert (not torch.equal(first.internal, second.internal)) == tap_reads
    assert not torch.equal(first.output, second.output)


@pytest.mark.parametrize("cls", LAYERS)
def test_order_of_the_queries_is_irrelevant(cls, memory):
    order = torch.randperm(5)
    content, where, reference = torch.randn(1, 5, 16), places(), torch.rand(1, 5, 4)
    straight = layer(cls)(content, where, reference, memory)
    shuffled = ConditionalPlaces(where.pos[:, order], where.spatial[:, order], None)
    turned = layer(cls)(content[:, order], shuffled, reference[:, order], memory)
    for a, b in zip(straight, turned):
        torch.testing.assert_close(a[:, order], b)


def asked(position, layer, reference=None, states=None, pos=None):
    """Places at a layer, of queries that are the same in every call."""
    torch.manual_seed(2)
    given = torch.randn(2, 5, 16) if pos is None else pos
    states = torch.randn(2, 5, 16) if states is None else states
    reference = torch.rand(2, 5, 4) if reference is None else reference
    return position(Queries(torch.zeros(2, 5, 16), given, reference), states, reference, layer)


def test_places_of_conditional_detr():
    position = made(ConditionalPosition, temperature=100.0)
    pos, states, points = torch.randn(2, 5, 16), torch.randn(2, 5, 16), torch.rand(2, 5, 2)
    first, later = (asked(position, layer, points, states, pos) for layer in (0, 3))
    assert first.pos is pos and later.pos is pos
    torch.testing.assert_close(first.start, position.start(pos))
    assert later.start is None
    y, x = (sine_features(points[..., axis], 8, 100.0) for axis in (1, 0))
    torch.testing.assert_close(first.spatial, torch.cat([y, x], -1))
    torch.testing.assert_close(later.spatial, first.spatial * position.scale(states))


def test_positions_of_anchors_need_none_of_the_queries():
    position = made(AnchorPosition)
    boxes = torch.rand(2, 5, 4)
    first, other = (asked(position, 0, boxes, pos=torch.randn(2, 5, 16)) for _ in range(2))
    assert torch.equal(first.pos, other.pos)
    boxes[..., 3] *= 0.5
    assert not torch.allclose(asked(position, 0, boxes).pos, first.pos)
    assert torch.equal(asked(position, 0, boxes).spatial, first.spatial)


@pytest.mark.parametrize("layer", [0, 1])
def test_extents_that_are_those_of_the_box_modulate_nothing(layer):
    """With wanted extent = extent of the box, attention is that of the unmodulated anchor."""
    plain, modulated = made(AnchorPosition), made(ModulatedAnchorPosition)
    modulated.load_state_dict(plain.state_dict(), strict=False)
    torch.nn.init.zeros_(modulated.extent.layers[-1].weight)
    torch.nn.init.zeros_(modulated.extent.layers[-1].bias)  # sigmoid: 0.5
    boxes = torch.rand(2, 5, 4)
    boxes[..., 2:] = 0.5
    ours, others = asked(modulated, layer, boxes), asked(plain, layer, boxes)
    torch.testing.assert_close(ours.spatial, others.spatial)
    torch.testing.assert_close(ours.pos, others.pos)
    # A box half as wide makes the horizontal half of the spatial query twice as long, and attention
    # to the columns twice as sharp.
    boxes[..., 2] = 0.25
    y, x = asked(modulated, layer, boxes).spatial.chunk(2, -1)
    plain_y, plain_x = others.spatial.chunk(2, -1)
    torch.testing.assert_close(x, 2 * plain_x)
    torch.testing.assert_close(y, plain_y)


def test_modulation_follows_the_state():
    position = made(ModulatedAnchorPosition)
    boxes, states = torch.rand(2, 5, 4), torch.randn(2, 5, 16)
    width, height = position.extent(states).sigmoid().unbind(-1)
    plain = made(AnchorPosition)
    y, x = asked(plain, 0, boxes).spatial.chunk(2, -1)
    expected = torch.cat(
        [y * (height / boxes[..., 3])[..., None], x * (width / boxes[..., 2])[..., None]], -1
    )
    torch.testing.assert_close(asked(position, 0, boxes, states).spatial, expected)
