"""Heads: one per layer, one for all layers, and heads that a supervision brings along."""

import pytest
import torch

from ms_detr.heads import BoxHeads, ClassHeads, PredictionHeads, SharedPredictionHeads

SIZES = {"embed_dim": 8, "num_classes": 5}


def test_every_layer_has_its_own_head():
    heads = PredictionHeads(num_layers=3, **SIZES)
    states, reference = torch.randn(2, 4, 8), torch.rand(2, 4, 4)
    first, second = (heads(states, reference, layer).logits_BNK for layer in (0, 1))
    torch.testing.assert_close(first, heads.class_heads[0](states))
    assert not torch.equal(first, second)
    with pytest.raises(IndexError):
        heads(states, reference, 3)


def test_shared_heads_are_the_same_in_every_layer():
    heads = SharedPredictionHeads(**SIZES)
    states, reference = torch.randn(2, 4, 8), torch.rand(2, 4, 2)
    first, last = (heads(states, reference, layer) for layer in (0, 5))
    assert torch.equal(first.logits_BNK, last.logits_BNK)
    assert torch.equal(first.boxes_BN4, last.boxes_BN4)
    assert {name.split(".")[1] for name, _ in heads.named_parameters()} == {"0"}


def test_first_boxes_are_the_references_and_points_get_the_initial_size():
    heads = PredictionHeads(num_layers=2, initial_size_logit=-2.0, **SIZES)
    states, points = torch.randn(1, 4, 8), torch.rand(1, 4, 2) * 0.9 + 0.05
    boxes = heads(states, points, 0).boxes_BN4
    torch.testing.assert_close(boxes[..., :2], points)
    torch.testing.assert_close(
        boxes[..., 2:], torch.sigmoid(torch.tensor(-2.0)).expand_as(boxes[..., 2:])
    )
    torch.testing.assert_close(heads(states, boxes, 1).boxes_BN4, boxes)


def test_own_heads_take_the_place_of_one_kind_only():
    heads = PredictionHeads(num_layers=2, **SIZES)
    classes = ClassHeads(num_layers=2, **SIZES)
    boxes = BoxHeads(embed_dim=8, num_layers=2)
    torch.nn.init.normal_(boxes[1].layers[-1].weight)
    states, reference = torch.randn(2, 4, 8), torch.rand(2, 4, 4)
    own = heads(states, reference, 1)
    with_classes = heads(states, reference, 1, class_heads=classes)
    with_boxes = heads(states, reference, 1, box_heads=boxes)
    torch.testing.assert_close(with_classes.logits_BNK, classes[1](states))
    assert torch.equal(with_classes.boxes_BN4, own.boxes_BN4)
    assert torch.equal(with_boxes.logits_BNK, own.logits_BNK)
    assert not torch.allclose(with_boxes.boxes_BN4, own.boxes_BN4)


def test_initial_scores_are_rare():
    heads = PredictionHeads(num_layers=1, **SIZES)
    scores = heads(torch.zeros(1, 1, 8), torch.rand(1, 1, 4), 0).logits_BNK.sigmoid()
    torch.testing.assert_close(scores, torch.full_like(scores, 0.01))


@pytest.mark.parametrize("heads", [PredictionHeads, ClassHeads])
def test_no_classes_are_refused(heads):
    with pytest.raises(ValueError, match="num_classes must be at least 1, got 0"):
        heads(num_classes=0)
