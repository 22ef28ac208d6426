"""Queries that are learned points or boxes."""

import pytest
import torch

from ms_detr.queries import AnchorQueries, ConditionalQueries, ContentAnchorQueries
from ms_detr.structures import FeaturePyramid, padding_mask

QUERIES = [ConditionalQueries, AnchorQueries, ContentAnchorQueries]


def memory(images=2):
    return FeaturePyramid.from_maps(
        [torch.randn(images, 16, 2, 3)],
        padding_mask([(64, 96)] * images, torch.zeros(images, 3, 64, 96)),
        lambda _, valid, shape, dtype: torch.zeros(len(valid), 6, 16),
    )


def made(cls):
    torch.manual_seed(0)
    return cls(num_queries=7, embed_dim=16)


@pytest.mark.parametrize("cls", QUERIES)
def test_every_image_gets_the_same(cls):
    queries, proposals = made(cls)(memory())
    assert proposals is None
    assert queries.content_BNC.shape == (2, 7, 16)
    for value in (queries.content_BNC, queries.reference_BNr):
        assert torch.equal(value[0], value[1])
    assert ((queries.reference_BNr > 0) & (queries.reference_BNr < 1)).all()


def test_points_are_a_perceptron_of_the_positions():
    initializer = made(ConditionalQueries)
    queries, _ = initializer(memory())
    assert torch.equal(queries.pos_BNC[1], initializer.embedding.weight)
    first, second = initializer.point_head.layers
    points = second(torch.relu(first(initializer.embedding.weight))).sigmoid()
    torch.testing.assert_close(queries.reference_BNr[0], points)
    assert not queries.content_BNC.any()


@pytest.mark.parametrize("cls", [AnchorQueries, ContentAnchorQueries])
def test_anchors_are_boxes_and_bring_no_positions(cls):
    initializer = made(cls)
    queries, _ = initializer(memory())
    assert queries.pos_BNC is None
    torch.testing.assert_close(queries.reference_BNr[1], initializer.anchors.weight.sigmoid())
    queries.reference_BNr.sum().backward()
    assert initializer.anchors.weight.grad.all()


def test_contents_are_zero_or_learned():
    assert not made(AnchorQueries)(memory())[0].content_BNC.any()
    learned = made(ContentAnchorQueries)
    assert torch.equal(learned(memory())[0].content_BNC[1], learned.contents.weight)


@pytest.mark.parametrize("cls", QUERIES)
def test_at_least_one_query(cls):
    with pytest.raises(ValueError, match="num_queries must be at least 1, got 0"):
        cls(num_queries=0, embed_dim=16)
