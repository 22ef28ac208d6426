"""Which gradients flow between decoder layers."""

import pytest
import torch

from ms_detr.decoder import DetachedRefinement, LookForwardTwice
from ms_detr.heads import apply_delta


@pytest.mark.parametrize("r", [2, 4])
def test_values(r):
    delta, reference = torch.randn(2, 3, 4), torch.rand(2, 3, r)
    boxes = apply_delta(delta, reference)
    for rule in (DetachedRefinement(), LookForwardTwice()):
        result = rule(delta, reference)
        torch.testing.assert_close(result.attention, boxes)
        torch.testing.assert_close(result.prediction, boxes)


def test_only_look_forward_twice_teaches_the_layer_before():
    delta = torch.randn(2, 3, 4, requires_grad=True)
    reference = torch.rand(2, 3, 4)
    detached, twice = (
        rule(delta, reference) for rule in (DetachedRefinement(), LookForwardTwice())
    )
    assert not detached.attention.requires_grad and not detached.prediction.requires_grad
    assert not twice.attention.requires_grad and twice.prediction.requires_grad
