"""Prices of masks: the losses of every query with every object, on shared points."""

from __future__ import annotations

import pytest
import torch
from losses.mask_problems import problem

from ms_detr.assigners import (
    DiceCost,
    FocalCost,
    HungarianAssigner,
    ImageMasks,
    MaskCost,
    MatchCosts,
)
from ms_detr.losses import MaskCrossEntropy, MaskDice, MaskSamples

TERMS = [(MaskCost, MaskCrossEntropy), (DiceCost, MaskDice)]


@pytest.mark.parametrize("cost, term", TERMS)
def test_price_is_the_loss_of_the_pair(cost, term):
    torch.manual_seed(0)
    logits, truth = 3 * torch.randn(5, 40), (torch.rand(3, 40) > 0.6).float()
    prices = cost(2.0)(logits, truth)
    assert prices.shape == (5, 3)
    for query in range(5):
        for target in range(3):
            pair = MaskSamples(logits[query, None], truth[target, None], torch.tensor(1.0))
            assert torch.allclose(prices[query, target], term(1.0)(pair), atol=1e-5)


def test_sample_of_an_image():
    """All queries of the image with its own objects, more than are looked at in one go."""
    predictions, targets = problem(queries=40)
    torch.manual_seed(5)
    logits, truth = ImageMasks(predictions.masks, targets.masks, 1, slice(2, 5)).sample(30)
    torch.manual_seed(5)
    points = torch.rand(1, 30, 2)
    assert logits.shape == (40, 30) and truth.shape == (3, 30)
    expected = targets.masks.sample(torch.tensor([2, 3, 4]), points.expand(3, -1, -1))
    assert torch.equal(truth, expected)
    maps = predictions.masks.of(torch.full((40,), 1), torch.arange(40))
    cells = (points[0] * predictions.masks.batch.extent_B2[1] * torch.tensor([12, 10])).long()
    # Bilinear values lie between those of the cells around.
    around = torch.nn.functional.unfold(maps[:, None], 3, padding=1).view(40, 9, 10, 12)
    around = around[:, :, cells[:, 1], cells[:, 0]]
    assert (logits <= around.amax(1) + 1e-5).all() and (logits >= around.amin(1) - 1e-5).all()


def test_masks_decide_who_is_matched():
    """Boxes and classes are alike; every query's mask is exactly that of one object."""
    predictions, targets = problem((3, 2), ((40, 48), (40, 48)), queries=3)
    order = torch.tensor([[2, 0, 1], [1, 0, 0]])
    pixels = targets.masks.pixels.view(5, 40, 48).float()
    maps = torch.nn.functional.avg_pool2d(pixels, 4)
    per_image = torch.stack([maps[:3], torch.cat([maps[3:], torch.zeros(1, 10, 12)])])
    ideal = torch.stack([per_image[i, order[i]] for i in range(2)])
    ideal[1, 2] = 0
    batch = predictions.masks.batch.__class__(
        lambda pixels, states, image, boxes: 40 * pixels[image, states[:, 0].long()] - 20,
        ideal, predictions.masks.batch.extent_B2,
    )  # fmt: skip
    numbers = torch.arange(3).float().expand(2, 3)[..., None]
    masks = batch.of_queries(numbers, predictions.boxes_BN4)
    predictions = predictions.__class__(predictions.logits_BNK, predictions.boxes_BN4, masks)
    costs = {"class": FocalCost(1.0), "mask": MaskCost(5.0, 2000), "dice": DiceCost(5.0, 2000)}
    found = HungarianAssigner(costs=MatchCosts(**costs))(predictions, targets)
    assert found.target_P.tolist() == [0, 1, 2, 3, 4]
    assert found.query_P.tolist() == [1, 2, 0, 1, 0]


def test_costs_of_one_number_share_points():
    predictions, targets = problem()
    seen = []

    class Spy(MaskCost):
        def __call__(self, logits_NR, truth_GR):
            seen.append(truth_GR)
            return super().__call__(logits_NR, truth_GR)

    costs = MatchCosts(a=Spy(1.0, 50), b=Spy(1.0, 50), c=Spy(1.0, 20))
    HungarianAssigner(costs=costs)(predictions, targets)
    assert len(seen) == 6 and seen[0] is seen[1] and seen[3] is seen[4]
    assert [len(truth) for truth in seen] == [2, 2, 2, 3, 3, 3]
    assert [truth.shape[1] for truth in seen] == [50, 50, 20] * 2


def test_images_without_objects():
    predictions, targets = problem((0, 0))
    found = HungarianAssigner(costs=MatchCosts(mask=MaskCost(1.0, 10)))(predictions, targets)
    assert len(found.query_P) == 0


def test_a_price_for_masks_that_are_not_there():
    predictions, targets = problem()
    predictions = predictions.__class__(predictions.logits_BNK, predictions.boxes_BN4)
    with pytest.raises(ValueError, match="DiceCost needs predicted and true masks.*mask_head"):
        HungarianAssigner(costs=MatchCosts(dice=DiceCost(1.0)))(predictions, targets)


@pytest.mark.parametrize("options", [{"weight": -1.0}, {"weight": 1.0, "num_points": 0}])
def test_arguments_that_make_no_sense(options):
    with pytest.raises(ValueError, match="weight of MaskCost|num_points must be"):
        MaskCost(**options)
