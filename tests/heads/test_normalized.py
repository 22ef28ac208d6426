"""Heads behind a LayerNorm that only predictions see."""

import torch

from ms_detr.decoder import DetachedRefinement
from ms_detr.heads import (
    BoxHeads,
    ClassHeads,
    NormalizedPredictionHeads,
    SharedPredictionHeads,
    apply_delta,
)


def made():
    torch.manual_seed(0)
    heads = NormalizedPredictionHeads(embed_dim=8, num_classes=3)
    for parameter in (heads.norm.weight, heads.norm.bias, heads.box_heads[0].layers[-1].weight):
        torch.nn.init.normal_(parameter)
    plain = SharedPredictionHeads(embed_dim=8, num_classes=3)
    plain.load_state_dict(heads.state_dict(), strict=False)
    return heads, plain


def test_predictions_are_those_of_normalised_states():
    heads, plain = made()
    states, reference = 5 * torch.randn(2, 4, 8), torch.rand(2, 4, 4)
    for layer in (0, 5):
        ours = heads(states, reference, layer)
        expected = plain(heads.norm(states), reference, layer)
        assert torch.equal(ours.logits_BNK, expected.logits_BNK)
        assert torch.equal(ours.boxes_BN4, expected.boxes_BN4)


def test_heads_of_a_supervision_read_the_same():
    heads, plain = made()
    own = {
        "class_heads": ClassHeads(embed_dim=8, num_classes=3, num_layers=1),
        "box_heads": BoxHeads(embed_dim=8, num_layers=1),
    }
    states, reference = 5 * torch.randn(2, 4, 8), torch.rand(2, 4, 4)
    ours = heads(states, reference, 0, **own)
    expected = plain(heads.norm(states), reference, 0, **own)
    assert torch.equal(ours.logits_BNK, expected.logits_BNK)
    assert torch.equal(ours.boxes_BN4, expected.boxes_BN4)


def test_refinement_goes_on_with_the_states_themselves():
    heads, _ = made()
    states, reference = 5 * torch.randn(2, 4, 8), torch.rand(2, 4, 4)
    refined = DetachedRefinement()(states, reference, heads.box_heads, 0).attention
    torch.testing.assert_close(refined, apply_delta(heads.box_heads(states, 0), reference))
    assert not torch.allclose(refined, heads(states, reference, 0).boxes_BN4)
