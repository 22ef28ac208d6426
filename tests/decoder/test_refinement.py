"""Which references the next layer gets, and which gradients flow there."""

import pytest
import torch

from ms_detr.decoder import DetachedRefinement, FixedReference, LookForwardTwice
from ms_detr.heads import BoxHeads, apply_delta


@pytest.fixture
def heads():
    torch.manual_seed(0)
    heads = BoxHeads(embed_dim=8, num_layers=2)
    for head in heads:
        torch.nn.init.normal_(head.layers[-1].weight)
    return heads


@pytest.mark.parametrize("r", [2, 4])
@pytest.mark.parametrize("layer", [0, 1])
def test_refined_references_are_the_boxes_of_this_layer(heads, r, layer):
    states, reference = torch.randn(2, 3, 8), torch.rand(2, 3, r)
    boxes = apply_delta(heads(states, layer), reference)
    for rule in (DetachedRefinement(), LookForwardTwice()):
        result = rule(states, reference, heads, layer)
        torch.testing.assert_close(result.attention, boxes)
        torch.testing.assert_close(result.prediction, boxes)


def test_only_look_forward_twice_teaches_the_layer_before(heads):
    states, reference = torch.randn(2, 3, 8), torch.rand(2, 3, 4)
    detached, twice = (
        rule(states, reference, heads, 0) for rule in (DetachedRefinement(), LookForwardTwice())
    )
    assert not detached.attention.requires_grad and not detached.prediction.requires_grad
    assert not twice.attention.requires_grad and twice.prediction.requires_grad


def test_fixed_references_stay_and_keep_their_gradient(heads):
    reference = torch.rand(2, 3, 2, requires_grad=True)
    result = FixedReference()(torch.randn(2, 3, 8), reference, heads, 0)
    assert result.attention is reference and result.prediction is reference
