"""Cells of the maps: where they are, what they show, and boxes in two kinds of coordinates."""

from __future__ import annotations

import pytest
import torch
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from supervision.auxiliary.dense_cases import STRIDES, maps_for, targets_of

from ms_detr.supervision.auxiliary import AuxiliaryMaps


def test_cells_are_in_the_order_of_their_features():
    pyramid = maps_for([(70, 100)], channels=2)
    assert pyramid.shapes == ((9, 13), (5, 7), (3, 4))
    # Each cell's features are the coordinates of its centre.
    maps = tuple(
        torch.stack(
            [
                ((torch.arange(width) + 0.5) * stride).expand(height, -1),
                ((torch.arange(height) + 0.5) * stride)[:, None].expand(-1, width),
            ]
        )[None]
        for (height, width), stride in zip(pyramid.shapes, STRIDES)
    )
    told = AuxiliaryMaps(maps, STRIDES, pyramid.sizes)
    assert torch.equal(told.tokens_BSC[0], told.centers_S2)
    assert told.level_S.bincount().tolist() == [9 * 13, 5 * 7, 3 * 4]
    assert torch.equal(told.level_S, told.level_S.sort()[0])


def test_centres_are_those_of_detectron2():
    pyramid = maps_for([(70, 100)])
    generator = DefaultAnchorGenerator(
        sizes=[[8.0]], aspect_ratios=[[1.0]], strides=list(STRIDES), offset=0.5
    )
    boxes = torch.cat([boxes.tensor for boxes in generator(list(pyramid.maps))])
    torch.testing.assert_close(pyramid.centers_S2, (boxes[:, :2] + boxes[:, 2:]) / 2)


def test_a_cell_is_on_the_image_if_it_shows_some_of_it():
    # 16 x 9 pixels in a batch of 24 x 32: two rows of cells; the second column begins at pixel 8.
    pyramid = maps_for([(16, 9), (24, 32)], strides=(8,))
    on_image = pyramid.on_image_BS.unflatten(1, (3, 4))
    assert on_image[0].tolist() == [[True, True, False, False]] * 2 + [[False] * 4]
    assert on_image[1].all()
    # One pixel less, and the column shows nothing.
    alone = AuxiliaryMaps(pyramid.maps, (8,), ((16, 8), (24, 32)))
    assert alone.on_image_BS[0].sum() == 2


def test_boxes_in_pixels_and_in_fractions():
    pyramid = maps_for([(50, 100), (200, 40)], strides=(8,), dtype=torch.float64)
    objects = [[(0, 10.0, 5.0, 30.0, 45.0)], [(1, 0.0, 0.0, 40.0, 200.0), (2, 1.0, 2.0, 4.0, 8.0)]]
    targets = targets_of(pyramid, objects)
    boxes = pyramid.boxes_of(targets)
    expected = [row[1:] for image in objects for row in image]
    torch.testing.assert_close(boxes, torch.tensor(expected, dtype=torch.float64))
    torch.testing.assert_close(
        pyramid.fractions(boxes[[0, 2], None])[:, 0], targets.boxes_G4[[0, 2]]
    )


@pytest.mark.parametrize(
    ("features", "coordinates"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_coordinates_are_not_in_half_precision(features, coordinates):
    pyramid = maps_for([(2048, 2048)], strides=(8,), channels=1, dtype=features)
    targets = targets_of(pyramid, [[(0, 1.0, 2.0, 2045.0, 2047.0)]], dtype=torch.float32)
    assert pyramid.dtype == pyramid.centers_S2.dtype == pyramid.size_B2.dtype == coordinates
    assert pyramid.boxes_of(targets).dtype == coordinates
    assert pyramid.centers_S2[-1].tolist() == [2044.0, 2044.0]
