"""The order of attentions inside the decoder layers."""

import pytest
import torch

from ms_detr.decoder import CrossSelfLayer, SelfCrossLayer
from ms_detr.structures import FeaturePyramid, padding_mask


@pytest.fixture
def inputs():
    torch.manual_seed(0)
    maps = [torch.randn(1, 16, 4, 4), torch.randn(1, 16, 2, 2)]
    memory = FeaturePyramid.from_maps(
        maps,
        padding_mask([(16, 16)], torch.zeros(1, 3, 16, 16)),
        lambda _, valid, shape, dtype: torch.zeros(len(valid), shape[0] * shape[1], 16),
    )
    return torch.randn(1, 5, 16), torch.randn(1, 5, 16), torch.rand(1, 5, 4), memory


def layer(cls):
    torch.manual_seed(1)
    return cls(
        embed_dim=16, feedforward_dim=32, dropout=0.0, num_heads=2, num_levels=2, num_points=2
    ).eval()


def changed(cls, inputs, query=0):
    """Which queries' states change, (internal, output), when one query changes."""
    content, pos, reference, memory = inputs
    other = content.clone()
    other[0, query] = torch.randn(16)
    before = layer(cls)(content, pos, reference, memory)
    after = layer(cls)(other, pos, reference, memory)
    moved = [(a - b).abs().amax(-1)[0] > 1e-6 for a, b in zip(before, after)]
    return moved[1].tolist(), moved[0].tolist()


def test_ms_detr_layer_mixes_queries_only_after_the_tap(inputs):
    internal, output = changed(CrossSelfLayer, inputs)
    assert internal == [True, False, False, False, False]
    assert all(output)


def test_standard_layer_mixes_queries_before_the_tap(inputs):
    internal, output = changed(SelfCrossLayer, inputs)
    assert all(internal) and all(output)


def test_standard_layer_reads_the_image_only_after_the_tap(inputs):
    content, pos, reference, memory = inputs
    black = memory.with_tokens(torch.zeros_like(memory.tokens_BSC))
    for cls, tap_changes in ((SelfCrossLayer, False), (CrossSelfLayer, True)):
        first, second = (layer(cls)(content, pos, reference, m) for m in (memory, black))
        assert (not torch.equal(first.internal, second.internal)) == tap_changes
        assert not torch.equal(first.output, second.output)
