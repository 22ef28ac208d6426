"""The dense encoder and the neck of one map."""

import pytest
import torch
import torch.nn.functional as F

from ms_detr.encoder import DenseEncoder, ScaledDenseEncoder, SingleLevelNeck
from ms_detr.layers import CornerSinePosition, SinePosition
from ms_detr.structures import padding_mask

ENCODERS = [DenseEncoder, ScaledDenseEncoder]


def made(cls, position=CornerSinePosition, **options):
    torch.manual_seed(0)
    options = {"num_layers": 2, "dropout": 0.0, **options}
    encoder = cls(
        position=position(16, 20.0), embed_dim=16, feedforward_dim=32, num_heads=2, **options
    )
    return encoder.double()


def padding(*sizes, canvas=(96, 128)):
    return padding_mask(sizes, torch.zeros(len(sizes), 3, *canvas))


def attended(attention, query, value):
    """Plain multi-head attention of one image, from the projections."""
    weight, bias = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
    q, k, v = (F.linear(x, w, b) for x, w, b in zip((query, query, value), weight, bias))
    heads = [
        (a @ b.T / a.shape[1] ** 0.5).softmax(-1) @ c
        for a, b, c in zip(*(x.chunk(attention.num_heads, 1) for x in (q, k, v)))
    ]
    return attention.out_proj(torch.cat(heads, 1))


@pytest.mark.parametrize("cls", ENCODERS)
def test_is_the_formula_on_the_cells_of_the_image(cls):
    """Also says that padding is not there: the slow form has never heard of it."""
    encoder = made(cls, activation=torch.nn.PReLU())
    maps = torch.randn(2, 16, 3, 4).double()
    memory = encoder([maps], padding((96, 128), (64, 96)))
    for image, (height, width) in enumerate([(3, 4), (2, 3)]):
        tokens = maps[image, :, :height, :width].flatten(1).T
        size = torch.tensor([[width, height]])
        pos = CornerSinePosition(16, 20.0)(size, (height, width), torch.float64)[0]
        for layer in encoder.layers:
            place = pos * encoder.scale(tokens) if cls is ScaledDenseEncoder else pos
            tokens = layer.norm(tokens + attended(layer.attention, tokens + place, tokens))
            part = layer.feed_forward
            hidden = F.prelu(part.linear1(tokens), part.activation.weight)
            tokens = part.norm(tokens + part.linear2(hidden))
        result = memory.tokens_BSC[image].view(3, 4, 16)[:height, :width].flatten(0, 1)
        torch.testing.assert_close(result, tokens)
        kept = memory.pos_BSC[image].view(3, 4, 16)[:height, :width].flatten(0, 1)
        torch.testing.assert_close(kept, pos)


def test_without_layers_the_map_is_the_memory():
    maps = torch.randn(1, 16, 3, 4).double()
    memory = made(DenseEncoder, num_layers=0)([maps], padding((96, 128)))
    assert torch.equal(memory.tokens_BSC[0].T, maps[0].flatten(1))


def test_every_layer_has_an_activation_of_its_own():
    encoder = made(DenseEncoder, activation=torch.nn.PReLU())
    weights = {id(layer.feed_forward.activation.weight) for layer in encoder.layers}
    assert len(weights) == 2


def test_the_position_is_a_choice():
    maps = torch.randn(1, 16, 3, 4).double()
    corner, centre = (
        made(DenseEncoder, position)([maps], padding((96, 128)))
        for position in (CornerSinePosition, SinePosition)
    )
    assert not torch.allclose(corner.tokens_BSC, centre.tokens_BSC)


@pytest.mark.parametrize("cls", ENCODERS)
def test_several_maps_are_refused(cls):
    maps = [torch.randn(1, 16, 3, 4).double(), torch.randn(1, 16, 2, 2).double()]
    with pytest.raises(ValueError, match=f"{cls.__name__} reads one map, the neck gives 2; use"):
        made(cls)(maps, padding((96, 128)))


def test_channels_must_be_divisible():
    with pytest.raises(ValueError, match="embed_dim 18 is not divisible by num_heads 4"):
        DenseEncoder(position=SinePosition(16), embed_dim=18, num_heads=4)


def test_neck_projects_the_map_that_is_named():
    neck = SingleLevelNeck(in_channels={"res5": 8}, embed_dim=16)
    features = {"res4": torch.randn(2, 4, 6, 8), "res5": torch.randn(2, 8, 3, 4)}
    (result,) = neck(features)
    expected = torch.einsum("oc,bchw->bohw", neck.projection.weight[..., 0, 0], features["res5"])
    torch.testing.assert_close(result, expected + neck.projection.bias[:, None, None])


def test_neck_takes_one_map():
    with pytest.raises(ValueError, match=r"must name one map, got {'res4': 4, 'res5': 8}"):
        SingleLevelNeck(in_channels={"res4": 4, "res5": 8}, embed_dim=16)
