"""The attention module against a direct, slow reading of the paper."""

import pytest
import torch
import torch.nn.functional as F

from ms_detr.layers import MultiScaleDeformableAttention
from ms_detr.structures import FeaturePyramid, padding_mask

SHAPES = ((4, 6), (2, 3))


def pyramid(images=2, channels=8, sizes=((16, 24), (9, 13))):
    maps = [torch.randn(images, channels, *shape).double() for shape in SHAPES]
    mask = padding_mask(list(sizes[:images]), torch.zeros(images, 3, 16, 24))
    return FeaturePyramid.from_maps(
        maps,
        mask,
        lambda _, valid, shape, dtype: torch.zeros(len(valid), shape[0] * shape[1], channels),
    )


def slow(attention, query, reference, memory):
    """One image, query, head, level and point at a time, sampling with grid_sample."""
    heads, levels, points = attention.num_heads, attention.num_levels, attention.num_points
    images, queries, channels = query.shape
    value = attention.value_proj(memory.tokens_BSC) * ~memory.padding_BS[..., None]
    offsets = attention.sampling_offsets(query).view(images, queries, heads, levels, points, 2)
    weights = attention.attention_weights(query).view(images, queries, heads, -1).softmax(-1)
    weights = weights.view(images, queries, heads, levels, points)
    width = channels // heads
    result = torch.zeros_like(query)
    for b in range(images):
        for n in range(queries):
            for h in range(heads):
                start = 0
                for level, (rows, columns) in enumerate(memory.shapes):
                    tokens = value[b, start : start + rows * columns, h * width : (h + 1) * width]
                    start += rows * columns
                    image = tokens.T.reshape(1, width, rows, columns)
                    ratio = memory.valid_ratios_BL2[b, level]
                    for z in range(points):
                        offset = offsets[b, n, h, level, z]
                        if reference.shape[-1] == 2:
                            step = offset / torch.tensor([columns, rows])
                        else:
                            step = offset / points * reference[b, n, 2:] * ratio * 0.5
                        place = reference[b, n, :2] * ratio + step
                        sample = F.grid_sample(
                            image, (2 * place - 1).view(1, 1, 1, 2), align_corners=False
                        )
                        result[b, n, h * width : (h + 1) * width] += (
                            weights[b, n, h, level, z] * sample.flatten()
                        )
    return attention.output_proj(result)


@pytest.mark.parametrize("r", [2, 4])
def test_equals_the_slow_form(r):
    torch.manual_seed(0)
    attention = MultiScaleDeformableAttention(8, num_heads=2, num_levels=2, num_points=3).double()
    torch.nn.init.normal_(attention.sampling_offsets.weight)
    torch.nn.init.normal_(attention.attention_weights.weight)
    memory = pyramid()
    query, reference = torch.randn(2, 5, 8).double(), torch.rand(2, 5, r).double()
    torch.testing.assert_close(
        attention(query, reference, memory), slow(attention, query, reference, memory)
    )


def test_padding_is_never_read():
    torch.manual_seed(0)
    attention = MultiScaleDeformableAttention(8, num_heads=2, num_levels=2, num_points=3).double()
    memory = pyramid()
    noise = memory.tokens_BSC + 100 * memory.padding_BS[..., None]
    query, reference = torch.randn(2, 5, 8).double(), torch.rand(2, 5, 2).double()
    expected = attention(query, reference, memory)
    assert torch.equal(attention(query, reference, memory.with_tokens(noise)), expected)


def test_first_head_looks_right_in_growing_steps():
    attention = MultiScaleDeformableAttention(8, num_heads=4, num_levels=2, num_points=3)
    offsets = attention.sampling_offsets.bias.view(4, 2, 3, 2)
    expected = torch.tensor([[1.0, 0], [2, 0], [3, 0]])
    torch.testing.assert_close(offsets[0], expected.expand(2, -1, -1))
    torch.testing.assert_close(offsets[1], expected.flip(-1).expand(2, -1, -1), atol=1e-6, rtol=0)


def test_wrong_number_of_levels_is_named():
    attention = MultiScaleDeformableAttention(8, num_heads=2, num_levels=3).double()
    with pytest.raises(ValueError, match=r"built for 3 levels, the pyramid has 2"):
        attention(torch.randn(2, 1, 8).double(), torch.rand(2, 1, 2).double(), pyramid())
