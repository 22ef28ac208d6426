"""Conditional attention against the formulas of the paper, one score at a time."""

import math

import pytest
import torch
import torch.nn.functional as F

from ms_detr.layers import ConditionalCrossAttention, ConditionalSelfAttention
from ms_detr.structures import FeaturePyramid, padding_mask

CHANNELS, HEADS = 12, 3
WIDTH = CHANNELS // HEADS


def memory(sizes=((96, 128), (64, 96))):
    """A map of 3 x 4 cells; the second image has 2 x 3 of them."""
    mask = padding_mask(sizes, torch.zeros(len(sizes), 3, 96, 128))
    maps = [torch.randn(len(sizes), CHANNELS, 3, 4).double()]
    return FeaturePyramid.from_maps(
        maps,
        mask,
        lambda _, valid, shape, dtype: torch.randn(len(valid), 12, CHANNELS).double(),
    )


def made(cls):
    torch.manual_seed(0)
    attention = cls(CHANNELS, HEADS).double()
    return attention.eval()


def slow(attention, queries, keys, values, visible):
    """Per image, head and query: scores of (content, place) pairs are added, then softmax.

    ``queries`` and ``keys`` are lists of parts (B, N, C), whose products are added.
    """
    images, num_queries, _ = queries[0].shape
    result = torch.zeros(images, num_queries, CHANNELS).double()
    for b in range(images):
        for h in range(HEADS):
            part = slice(h * WIDTH, (h + 1) * WIDTH)
            for n in range(num_queries):
                scores = []
                for s in range(keys[0].shape[1]):
                    products = [q[b, n, part] @ k[b, s, part] for q, k in zip(queries, keys)]
                    score = sum(products) / math.sqrt(WIDTH * len(products))
                    scores.append(score if visible[b, s] else torch.tensor(-math.inf).double())
                weights = torch.stack(scores).softmax(0)
                result[b, n, part] = sum(w * values[b, s, part] for s, w in enumerate(weights))
    return F.linear(result, attention.output_proj.weight, attention.output_proj.bias)


def test_self_attention_is_the_formula():
    attention = made(ConditionalSelfAttention)
    content, pos = torch.randn(2, 2, 5, CHANNELS).double().unbind()
    query = attention.query_content_proj(content) + attention.query_pos_proj(pos)
    key = attention.key_content_proj(content) + attention.key_pos_proj(pos)
    value = attention.value_proj(content)
    expected = slow(attention, [query], [key], value, torch.ones(2, 5))
    torch.testing.assert_close(attention(content, pos), expected)


@pytest.mark.parametrize("first", [False, True])
def test_cross_attention_is_the_formula(first):
    attention, read = made(ConditionalCrossAttention), memory()
    content, spatial, start = torch.randn(3, 2, 5, CHANNELS).double().unbind()
    query, key = attention.query_content_proj(content), attention.key_content_proj(read.tokens_BSC)
    place, cell = attention.query_spatial_proj(spatial), attention.key_pos_proj(read.pos_BSC)
    if first:
        query, key = query + start, key + cell
    value = attention.value_proj(read.tokens_BSC)
    expected = slow(attention, [query, place], [key, cell], value, ~read.padding_BS)
    result = attention(content, spatial, start if first else None, read)
    torch.testing.assert_close(result, expected)


def test_padding_is_never_read():
    attention, read = made(ConditionalCrossAttention), memory()
    assert read.padding_BS.sum() == 6
    content, spatial = torch.randn(2, 2, 5, CHANNELS).double().unbind()
    noise = read.with_tokens(read.tokens_BSC + 100 * read.padding_BS[..., None])
    expected = attention(content, spatial, None, read)
    assert torch.equal(attention(content, spatial, None, noise), expected)


def test_dropout_only_in_training():
    attention, read = made(ConditionalCrossAttention), memory()
    attention.dropout = 0.5
    content, spatial = torch.randn(2, 2, 5, CHANNELS).double().unbind()
    inputs = (content, spatial, None, read)
    assert torch.equal(attention(*inputs), attention(*inputs))
    attention.train()
    assert not torch.equal(attention(*inputs), attention(*inputs))


def test_channels_must_be_divisible():
    with pytest.raises(ValueError, match="embed_dim 10 is not divisible by num_heads 3"):
        ConditionalSelfAttention(10, 3)
