"""Mask heads: chosen queries alone, and what the maps mean."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ms_detr.heads import AttentionMaskHead, LocalizedMaskHead, QueryPixelMaskHead
from ms_detr.structures import FeaturePyramid
from ms_detr.structures.masks import BatchMasks

CHANNELS, QUERIES = 16, 5
IMAGES = torch.tensor([0, 0, 1, 1, 1])
BOXES = 0.2 + 0.6 * torch.rand(100, 4, generator=torch.Generator().manual_seed(0))


def maps(batch: int = 2):
    """Backbone maps of strides 4, 8, 16 and the memory of an encoder on 8, 16, 32."""
    torch.manual_seed(1)
    features = {f"res{i + 2}": torch.randn(batch, 8, 24 >> i, 32 >> i) for i in range(3)}
    shapes = ((12, 16), (6, 8), (3, 4))
    tokens = sum(h * w for h, w in shapes)
    padding = torch.zeros(batch, tokens, dtype=torch.bool)
    padding[1, -4:] = True  # the last row of the coarsest level
    valid = torch.tensor([[w, h] for h, w in shapes]).expand(batch, -1, -1)
    memory = FeaturePyramid(
        torch.randn(batch, tokens, CHANNELS), torch.zeros(()), padding, shapes, valid
    )
    return features, memory


def query_pixel(**options) -> QueryPixelMaskHead:
    torch.manual_seed(0)
    return QueryPixelMaskHead(
        **{"in_channels": {"res2": 8}, "embed_dim": CHANNELS, "mask_dim": 12, "num_groups": 4}
        | options
    )


def localized(**options) -> LocalizedMaskHead:
    torch.manual_seed(0)
    given = {"in_channels": {"res2": 8}, "embed_dim": CHANNELS, "mask_dim": 12, "num_groups": 4}
    return LocalizedMaskHead(**given | options)


def attention(**options) -> AttentionMaskHead:
    torch.manual_seed(0)
    given = {"in_channels": {"res4": 8, "res3": 8, "res2": 8}, "embed_dim": CHANNELS}
    return AttentionMaskHead(**given | {"num_heads": 4, "num_groups": 1} | options)


@pytest.mark.parametrize("make", [query_pixel, localized, attention])
def test_map_of_a_level(make):
    features, memory = maps()
    tokens = memory.tokens_BSC
    assert torch.equal(memory.map(1)[0, :, 2, 5], tokens[0, 12 * 16 + 2 * 8 + 5])
    assert memory.map(2).shape == (2, CHANNELS, 3, 4)
    head = make()
    logits = head(head.pixels(features, memory), torch.randn(5, CHANNELS), IMAGES, BOXES[:5])
    assert logits.shape == (5, 24, 32)


@pytest.mark.parametrize("make", [query_pixel, localized, attention])
def test_chosen_queries_get_what_each_gets_alone(make):
    """In any order, and none of them changes another one's mask."""
    features, memory = maps()
    head, states = make(), torch.randn(5, CHANNELS)
    pixels = head.pixels(features, memory)
    together = head(pixels, states, IMAGES, BOXES[:5])
    order = torch.tensor([3, 0, 4, 1])
    found = head(pixels, states[order], IMAGES[order], BOXES[order])
    assert torch.allclose(found, together[order], atol=1e-5)
    for index in range(5):
        own = slice(index, index + 1)
        alone = head(pixels, states[own], IMAGES[own], BOXES[:5][own])
        assert torch.allclose(alone, together[own], atol=1e-5)
    assert not torch.allclose(together[0], together[1], atol=1e-3)


@pytest.mark.parametrize("make", [query_pixel, localized, attention])
def test_an_image_alone(make):
    features, memory = maps()
    head, states = make(), torch.randn(5, CHANNELS)
    both = head(head.pixels(features, memory), states, IMAGES, BOXES[:5])
    second = {name: value[1:] for name, value in features.items()}
    alone = FeaturePyramid(
        memory.tokens_BSC[1:], memory.pos_BSC, memory.padding_BS[1:], memory.shapes, torch.zeros(())
    )
    single = head(head.pixels(second, alone), states[2:], torch.zeros(3).long(), BOXES[2:5])
    assert torch.allclose(single, both[2:], atol=1e-5)


@pytest.mark.parametrize("make", [query_pixel, localized, attention])
@pytest.mark.parametrize("count", [0, 1, 100])
def test_every_parameter_has_a_gradient(make, count):
    features, memory = maps()
    head = make()
    image = torch.zeros(count).long()
    logits = head(head.pixels(features, memory), torch.randn(count, CHANNELS), image, BOXES[:count])
    assert logits.shape == (count, 24, 32)
    (logits**2).sum().backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert bool(parameter.grad.any()) == (count > 0), name


@pytest.mark.parametrize("make", [query_pixel, localized, attention])
def test_bf16_autocast(make):
    features, memory = maps()
    head, states = make(), torch.randn(1, 5, CHANNELS)
    extent, boxes = torch.ones(2, 2), BOXES[None, :5]
    exact = BatchMasks(head, head.pixels(features, memory), extent).of_queries(states, boxes)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = BatchMasks(head, head.pixels(features, memory), extent).of_queries(states, boxes)
        image, query = torch.zeros(5).long(), torch.arange(5)
        found = rough.of(image, query)
    expected = exact.of(image, query)
    assert found.dtype == torch.float32 and not torch.equal(found, expected)
    assert (found - expected).abs().max() < 0.1 * expected.abs().max()


def test_logit_is_the_product_of_query_and_pixel():
    features, memory = maps()
    head, states = query_pixel(), torch.randn(5, CHANNELS)
    pixels = head.pixels(features, memory)
    query = head.query_embed(states)
    expected = torch.stack([(q[:, None, None] * pixels[i]).sum(0) for q, i in zip(query, IMAGES)])
    assert torch.allclose(head(pixels, states, IMAGES, BOXES[:5]), expected, atol=1e-5)


def test_levels_of_the_encoder_reach_the_pixels():
    features, memory = maps()
    for levels in (1, 2, 3):
        head = query_pixel(num_levels=levels)
        assert len(head.pixel_decoder.merges) == levels
        before = head.pixels(features, memory)
        for level in range(3):
            start = sum(h * w for h, w in memory.shapes[:level])
            tokens = memory.tokens_BSC.clone()
            tokens[:, start] += 1
            changed = not torch.equal(head.pixels(features, memory.with_tokens(tokens)), before)
            assert changed == (level < levels)


def test_attention_head_is_that_of_detr():
    """Attention beside the level, channel by channel, through one convolution."""
    features, memory = maps()
    head, states = attention(), torch.randn(5, CHANNELS)
    found = head(head.pixels(features, memory), states, IMAGES, BOXES[:5])

    joint = nn.Conv2d(CHANNELS + 4, CHANNELS, 3, padding=1)
    joint.weight.data = torch.cat([head.coarse.weight, head.attended.weight], 1)
    joint.bias.data = head.coarse.bias.data
    coarse = memory.map(2)
    for row, image in enumerate(IMAGES.tolist()):
        scores = torch.zeros(4, 12)
        for number in range(4):
            own = slice(4 * number, 4 * number + 4)
            query = head.query(states[row])[own] / math.sqrt(4)
            for cell in range(12):
                key = head.key(coarse[image].flatten(1)[:, cell])[own]
                scores[number, cell] = query @ key
        if image == 1:
            scores[:, 8:] = float("-inf")
        weights = scores.flatten().softmax(0).view(1, 4, 3, 4)
        x = joint(torch.cat([coarse[image, None], weights], 1))
        x = F.relu(head.reductions[0](F.relu(head.norm(x))))
        for index, name in enumerate(("res4", "res3", "res2")):
            side = head.laterals[index](features[name][image, None])
            x = F.interpolate(x, side.shape[-2:], mode="bilinear") + side
            x = F.relu(head.reductions[index + 1](x))
        assert torch.allclose(head.output(x)[0, 0], found[row], atol=1e-4)


@pytest.mark.parametrize(
    "make, options, words",
    [
        (query_pixel, {"in_channels": {"res2": 8, "res3": 8}}, "takes one map"),
        (query_pixel, {"num_levels": 0}, "num_levels must be at least 1, got 0"),
        (attention, {"in_channels": {}}, "cannot be divided"),
        (attention, {"num_heads": 3}, "16 channels cannot be divided among 3 heads"),
        (attention, {"embed_dim": 8}, "8 channels .* halved for .*'res4', 'res3', 'res2'"),
        (attention, {"num_groups": 2}, "divisible by num_groups"),
    ],
)
def test_arguments_that_do_not_fit(make, options, words):
    with pytest.raises(ValueError, match=words):
        make(**options)


def test_a_level_that_the_encoder_lacks():
    features, memory = maps()
    with pytest.raises(ValueError, match="num_levels is 4, but the encoder has 3 levels"):
        query_pixel(num_levels=4).pixels(features, memory)
    with pytest.raises(ValueError, match="level is 3, but the encoder has 3 levels"):
        attention(level=3).pixels(features, memory)


def test_prior_is_at_first_the_ellipse_in_the_box():
    prior = localized().prior
    box = torch.tensor([[0.5, 0.25, 0.5, 0.25]])  # 16 x 4 cells of 32 x 16
    (logits,) = prior(torch.randn(1, CHANNELS), box, (16, 32))
    x, y = (torch.arange(32) + 0.5 - 16) / 8, (torch.arange(16)[:, None] + 0.5 - 4) / 2
    expected = 2 - 2 * x.clamp(-3, 3) ** 2 - 2 * y.clamp(-3, 3) ** 2
    assert torch.allclose(logits, expected, atol=1e-5)
    inside = logits > 0
    assert inside[2:6, 8:24].float().mean() > 0.6 and not inside[:2].any() and not inside[6:].any()


def test_prior_is_any_quadratic_of_the_coordinates_of_the_box():
    """Against its definition, cell by cell, for every coefficient on its own."""
    prior = localized().prior
    boxes = torch.tensor([[0.5, 0.5, 0.5, 1.0], [0.1, 0.9, 0.4, 0.3]])
    for index in range(6):
        with torch.no_grad():
            prior.coefficients.bias.zero_()[index] = 1.5
        found = prior(torch.zeros(2, CHANNELS), boxes, (4, 6))
        for (cx, cy, w, h), own in zip(boxes.tolist(), found):
            for row in range(4):
                for column in range(6):
                    u = min(3, max(-3, ((column + 0.5) / 6 - cx) * 2 / w))
                    v = min(3, max(-3, ((row + 0.5) / 4 - cy) * 2 / h))
                    basis = (1, u, v, u * u, v * v, u * v)
                    assert own[row, column].item() == pytest.approx(1.5 * basis[index], abs=1e-5)


def test_masks_do_not_teach_boxes_and_empty_boxes_do_no_harm():
    features, memory = maps()
    head, boxes = localized(), BOXES[:5].clone()
    boxes[0, 2:] = 0
    boxes.requires_grad_()
    states = torch.randn(5, CHANNELS, requires_grad=True)
    logits = head(head.pixels(features, memory), states, IMAGES, boxes)
    assert torch.isfinite(logits).all()
    logits.sum().backward()
    assert boxes.grad is None and torch.isfinite(states.grad).all()


def test_prior_is_added():
    features, memory = maps()
    head, states = localized(), torch.randn(5, CHANNELS)
    pixels = head.pixels(features, memory)
    plain = super(LocalizedMaskHead, head).forward(pixels, states, IMAGES, BOXES[:5])
    found = head(pixels, states, IMAGES, BOXES[:5])
    assert torch.allclose(found - plain, head.prior(states, BOXES[:5], (24, 32)), atol=1e-4)
