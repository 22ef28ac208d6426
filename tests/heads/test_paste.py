"""Masks of a head whose maps are set by hand, pasted into the image."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from ms_detr.heads import ClippedDetections, NMSDetections, TopKDetections, paste_masks
from ms_detr.heads.masks import paste
from ms_detr.structures import LayerPredictions
from ms_detr.structures.masks import BatchMasks, QueryMasks


def by_hand(maps_BNhw: torch.Tensor, extent=((1.0, 1.0),)) -> QueryMasks:
    """Masks of queries that are numbered by their states."""

    def head(pixels, states_PC, image_P, boxes_P4):
        return pixels[image_P, states_PC[:, 0].long()]

    numbers = torch.arange(maps_BNhw.shape[1]).float().expand(len(maps_BNhw), -1)[..., None]
    boxes = torch.full((*maps_BNhw.shape[:2], 4), 0.5)
    return QueryMasks(BatchMasks(head, maps_BNhw, torch.tensor(extent)), numbers, boxes)


def test_exact_masks_for_maps_by_hand():
    """Left half, a corner and nothing, in four times the size."""
    logits = torch.full((1, 3, 4, 6), -5.0)
    logits[0, 0, :, :3] = 5
    logits[0, 1, 3, 5] = 5
    found = paste_masks(by_hand(logits), 0, torch.tensor([1, 0, 2]), (16, 24))
    expected = torch.zeros(3, 16, 24, dtype=torch.bool)
    expected[1, :, :12] = True
    # Between the centres of a cell of 5 and one of -5 the border lies halfway, at the cells' edge;
    # where two such edges meet, the product of both shares decides.
    share_y, share_x = ((torch.arange(4) + 0.5 + 2).clamp(max=4) / 4 for _ in "yx")
    expected[0, 12:, 20:] = share_y[:, None] * share_x > 0.5
    outside = (torch.arange(4) + 0.5 - 2).clamp(min=0) / 4
    assert not (outside > 0.5).any()
    assert torch.equal(found, expected)


@pytest.mark.parametrize("size", [(16, 24), (37, 50), (7, 5)])
def test_pasting_is_a_bilinear_resize(size):
    torch.manual_seed(0)
    logits = torch.randn(2, 5, 4, 6)
    found = paste_masks(by_hand(logits, ((1, 1), (1, 1))), 1, torch.tensor([4, 0]), size)
    expected = F.interpolate(logits[1:, [4, 0]], size, mode="bilinear", align_corners=False)[0]
    sure = expected.abs() > 1e-4
    assert torch.equal(found[sure], (expected > 0)[sure]) and sure.float().mean() > 0.99


def test_padding_is_cut_off():
    """Three quarters of the width and half of the height are image; beyond is noise."""
    torch.manual_seed(0)
    logits = torch.randn(1, 2, 8, 8)
    padded = 100 * torch.randn(1, 2, 8, 8)
    padded[..., :4, :6] = logits[..., :4, :6]
    found = paste_masks(by_hand(padded, ((0.75, 0.5),)), 0, torch.arange(2), (16, 24))
    expected = F.interpolate(logits[..., :4, :6], (16, 24), mode="bilinear", align_corners=False)
    sure = expected[0].abs() > 1e-3
    assert torch.equal(found[sure], (expected[0] > 0)[sure])


def test_masks_that_touch_the_border():
    for edge in range(4):
        logits = torch.full((8, 8), -9.0)
        logits.rot90(edge)[0] = 9
        (found,) = paste_masks(by_hand(logits[None, None]), 0, torch.tensor([0]), (32, 32))
        expected = torch.zeros(32, 32, dtype=torch.bool)
        expected.rot90(edge)[:4] = True
        assert torch.equal(found, expected)


def test_no_detection_gives_no_mask():
    found = paste_masks(by_hand(torch.randn(1, 3, 4, 4)), 0, torch.zeros(0).long(), (9, 11))
    assert found.shape == (0, 9, 11) and found.dtype == torch.bool


def test_pasted_a_few_at_a_time(monkeypatch):
    logits, query = torch.randn(1, 40, 4, 6), torch.randint(0, 40, (100,))
    whole = paste_masks(by_hand(logits), 0, query, (16, 24))
    asked = []

    def head(pixels, states_PC, image_P, boxes_P4):
        asked.append(len(states_PC))
        return pixels[image_P, states_PC[:, 0].long()]

    masks = by_hand(logits)
    masks = replace(masks, batch=replace(masks.batch, head=head))
    monkeypatch.setattr(paste, "_PIXELS", 3 * 16 * 24)
    assert torch.equal(paste_masks(masks, 0, query, (16, 24)), whole)
    # Each query once, though some are detected as several classes.
    assert max(asked) == 3 and sum(asked) == len(query.unique())


@pytest.mark.parametrize(
    "postprocess",
    [TopKDetections(6), NMSDetections(6, 0.5), ClippedDetections(TopKDetections(6))],
)
def test_detections_have_the_masks_of_their_queries(postprocess):
    torch.manual_seed(0)
    boxes = torch.rand(2, 4, 4) * 0.3 + 0.2
    logits = torch.randn(2, 4, 3)
    maps_of = torch.full((2, 4, 8, 8), -5.0)
    for image in range(2):
        for query in range(4):
            maps_of[image, query, query, image] = 5  # a cell of its own
    masks = by_hand(maps_of, ((1, 1), (1, 1)))
    with_masks = postprocess(LayerPredictions(logits, boxes, masks), [(32, 32), (64, 96)])
    without = postprocess(LayerPredictions(logits, boxes), [(32, 32), (64, 96)])
    for image, (found, plain) in enumerate(zip(with_masks, without)):
        assert not plain.has("pred_masks") and len(found) == len(plain) > 0
        assert torch.equal(found.scores, plain.scores)
        assert found.pred_masks.shape == (len(found), *found.image_size)
        for score, mask in zip(found.scores, found.pred_masks):
            (query,) = {int(q) for q in (logits[image].sigmoid() == score).nonzero()[:, 0]}
            height, width = found.image_size
            y, x = (int(v) for v in mask.nonzero().float().mean(0))
            assert (y * 8 // height, x * 8 // width) == (query, image)
