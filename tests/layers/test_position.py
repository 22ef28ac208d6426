"""Sine position embeddings against the formula, written out."""

import math

import pytest
import torch

from ms_detr.layers import CornerSinePosition, SinePosition, reference_features


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


@pytest.mark.parametrize("cls, place", [(SinePosition, 0.5), (CornerSinePosition, 1.0)])
def test_a_reference_on_a_cell_has_the_features_of_the_cell(cls, place):
    """Queries and tokens are compared by these: same order of axes, same place in the cell."""
    height, width, valid = 3, 5, torch.tensor([[4, 2]])
    cells = cls(8, temperature=20.0)(valid, (height, width), torch.float64).view(height, width, 8)
    for y in range(2):
        for x in range(4):
            point = torch.tensor([[[(x + place) / 4, (y + place) / 2]]], dtype=torch.float64)
            features = reference_features(point, 4, temperature=20.0)[0, 0]
            torch.testing.assert_close(features, cells[y, x], atol=1e-5, rtol=0)


def test_box_features_go_on_with_width_and_height():
    box = torch.rand(2, 3, 4, dtype=torch.float64)
    features = reference_features(box, 6, temperature=20.0)
    assert features.shape == (2, 3, 24)
    for start, coordinate in zip(range(0, 24, 6), (1, 0, 2, 3)):
        angle = 2 * math.pi * box[..., coordinate] / 20 ** (2 / 6)
        torch.testing.assert_close(features[..., start + 2], angle.sin())
        torch.testing.assert_close(features[..., start + 3], angle.cos())
