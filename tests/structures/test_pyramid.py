"""FeaturePyramid and padding: what is image, and where."""

import pytest
import torch

from ms_detr.structures import FeaturePyramid, padding_mask


def no_position(level, valid_B2, shape, dtype):  # noqa: ARG001
    return torch.zeros(len(valid_B2), shape[0] * shape[1], 8, dtype=dtype)


def test_padding_mask_is_what_lies_right_of_and_below_the_image():
    mask = padding_mask([(2, 3), (4, 1)], torch.zeros(2, 3, 4, 3))
    assert (~mask[0]).nonzero().tolist() == [[y, x] for y in range(2) for x in range(3)]
    assert (~mask[1]).nonzero().tolist() == [[y, 0] for y in range(4)]


@pytest.mark.parametrize("image", [(64, 64), (40, 64), (33, 7), (1, 1)])
def test_levels_know_their_valid_part(image):
    # a cell is image if the pixel that nearest-neighbour sampling picks for it is
    mask = padding_mask([image], torch.zeros(1, 3, 64, 64))
    maps = [torch.zeros(1, 8, 8, 8), torch.zeros(1, 8, 3, 3)]
    pyramid = FeaturePyramid.from_maps(maps, mask, no_position)
    assert pyramid.shapes == ((8, 8), (3, 3))
    start = 0
    for level, side in enumerate((8, 3)):
        width = sum(i * 64 // side < image[1] for i in range(side))
        height = sum(i * 64 // side < image[0] for i in range(side))
        assert pyramid.valid_BL2[0, level].tolist() == [width, height]
        padding = pyramid.padding_BS[0, start : start + side * side].view(side, side)
        assert (~padding).sum() == width * height
        assert not padding[:height, :width].any()
        start += side * side


def test_centers_are_fractions_of_the_image_without_padding():
    mask = padding_mask([(4, 8), (4, 4)], torch.zeros(2, 3, 4, 8))
    pyramid = FeaturePyramid.from_maps([torch.zeros(2, 8, 2, 4)], mask, no_position)
    centers = pyramid.centers_BS2().view(2, 2, 4, 2)
    torch.testing.assert_close(centers[0, 0, :, 0], torch.tensor([0.125, 0.375, 0.625, 0.875]))
    torch.testing.assert_close(centers[1, 0, :, 0], torch.tensor([0.25, 0.75, 1.25, 1.75]))
    torch.testing.assert_close(centers[0, :, 0, 1], torch.tensor([0.25, 0.75]))
    torch.testing.assert_close(
        pyramid.valid_ratios_BL2[:, 0], torch.tensor([[1.0, 1.0], [0.5, 1.0]])
    )
