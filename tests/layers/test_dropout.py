"""Dropout of the layers: as torch's where it says something, and everywhere the same class."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ms_detr.decoder import CrossSelfLayer
from ms_detr.encoder import DeformableEncoder, DenseEncoder
from ms_detr.layers import Dropout, SinePosition
from ms_detr.layers.scaled_attention import attend


def test_only_in_training():
    layer, x = Dropout(0.5), torch.randn(100)
    assert not torch.equal(layer(x), x)
    assert torch.equal(layer.eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)
    with pytest.raises(ValueError, match="probability"):
        Dropout(1.5)


@pytest.mark.parametrize(
    "module",
    [
        CrossSelfLayer(embed_dim=16, feedforward_dim=8, num_heads=2),
        DeformableEncoder(num_layers=1, embed_dim=16, feedforward_dim=8, num_heads=2),
        DenseEncoder(position=SinePosition(16), num_layers=1, embed_dim=16, num_heads=2),
    ],
    ids=lambda module: type(module).__name__,
)
def test_used_by_all_layers(module):
    kinds = {type(part) for part in module.modules() if isinstance(part, nn.Dropout)}
    assert kinds == {Dropout}


@pytest.mark.parametrize("masked", [False, True])
def test_attention_without_dropout_is_torchs(masked):
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, n, 4, dtype=torch.float64) for n in (5, 7, 7))
    visible = torch.rand(5, 7) > 0.4 if masked else None
    expected = F.scaled_dot_product_attention(q, k, v, visible)
    assert torch.equal(attend(q, k, v, visible), expected)


@pytest.mark.parametrize("masked", [False, True])
def test_attention_with_dropout(masked, monkeypatch):
    """With a dropout that drops nothing, the same as torch's; with one, the mean is that."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, n, 4, dtype=torch.float64) for n in (5, 7, 7))
    visible = torch.rand(5, 7) > 0.4 if masked else None
    if masked:
        visible[:, 0] = True
    expected = F.scaled_dot_product_attention(q, k, v, visible)
    with monkeypatch.context() as patch:
        patch.setattr("ms_detr.layers.scaled_attention.dropout", lambda x, p: x)
        torch.testing.assert_close(attend(q, k, v, visible, 0.3), expected, rtol=1e-12, atol=1e-12)
    mean = sum(attend(q, k, v, visible, 0.3) for _ in range(2000)) / 2000
    assert (mean - expected).abs().max().item() < 0.12
    assert (attend(q, k, v, visible, 0.3) - expected).abs().max().item() > 0.2
