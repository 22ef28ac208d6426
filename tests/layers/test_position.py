"""Sine position embeddings against the formula, written out."""

import math

import pytest
import torch

from ms_detr.layers import SinePosition


def test_embedding_is_the_formula():
    height, width, valid_height, valid_width = 3, 5, 2, 4
    position = SinePosition(8, temperature=100.0)
    result = position(torch.tensor([[valid_width, valid_height]]), (height, width), torch.float64)
    result = result.view(height, width, 8)
    for y in range(valid_height):
        for x in range(valid_width):
            expected = []
            for cell, cells in ((y, valid_height), (x, valid_width)):
                coordinate = (cell + 0.5) / (cells + 1e-6) * 2 * math.pi
                for frequency in (1.0, 100 ** (2 / 4)):
                    angle = coordinate / frequency
                    expected += [math.sin(angle), math.cos(angle)]
            torch.testing.assert_close(result[y, x], torch.tensor(expected, dtype=torch.float64))
    assert torch.isfinite(result).all()


def test_embedding_does_not_depend_on_padding():
    position = SinePosition(16)
    valid = torch.tensor([[4, 3]])
    tight = position(valid, (3, 4), torch.float32).view(3, 4, 16)
    padded = position(valid, (7, 9), torch.float32).view(7, 9, 16)
    assert torch.equal(padded[:3, :4], tight)


def test_width_must_be_divisible():
    with pytest.raises(ValueError, match="divisible by 4, got 10"):
        SinePosition(10)
