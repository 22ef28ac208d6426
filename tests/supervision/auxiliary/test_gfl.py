"""The head of GFL: losses beside a slow form, distributions, quality."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from supervision.auxiliary.dense_cases import (
    CHANNELS,
    NUM_CLASSES,
    OBJECTS,
    SIZES,
    STRIDES,
    maps_for,
    targets_of,
)
from supervision.auxiliary.dense_references import giou_loss, positives
from torchvision.ops import box_iou

from ms_detr.supervision.auxiliary import UNUSED, GFLHead
from ms_detr.supervision.auxiliary.distribution import (
    distribution_focal_losses,
    expected_distances,
    side_logits,
)
from ms_detr.supervision.auxiliary.losses import Pairs, quality_focal_loss


def case(**others):
    torch.manual_seed(1)
    head = GFLHead(num_classes=NUM_CLASSES, strides=STRIDES, embed_dim=CHANNELS, **others)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    pyramid = maps_for(SIZES)
    return head, pyramid, targets_of(pyramid, OBJECTS, dtype=torch.float32)


def slow_box(raw, anchor, stride, bins):
    """Left, top, right and bottom of a positive, expectation by expectation."""
    x, y = (anchor[:2] + anchor[2:]) / 2
    reach = []
    for side in range(4):
        probabilities = raw[side * (bins + 1) : (side + 1) * (bins + 1)].softmax(0)
        reach.append(stride * sum(value * p for value, p in enumerate(probabilities)))
    return torch.stack([x - reach[0], y - reach[1], x + reach[2], y + reach[3]])


def slow_sides(raw, anchor, true, stride, bins):
    """Mean of the four cross-entropies with the two neighbours of the true distance."""
    x, y = ((anchor[:2] + anchor[2:]) / 2).tolist()
    x0, y0, x1, y1 = true.tolist()
    loss = 0.0
    for side, distance in enumerate([x - x0, y - y0, x1 - x, y1 - y]):
        distance = min(max(distance / stride, 0), bins)
        row = raw[side * (bins + 1) : (side + 1) * (bins + 1)]
        share = torch.zeros(bins + 1)
        share[math.floor(distance)] = 1 - (distance - math.floor(distance))
        if share[math.floor(distance)] < 1:
            share[math.floor(distance) + 1] = distance - math.floor(distance)
        loss = loss + F.cross_entropy(row[None], share[None]) / 4
    return loss


def slow_losses(head, pyramid, targets, object_BA, bins):
    """The losses as the paper writes them, candidate by candidate and class by class."""
    output, grid = head.tower(pyramid.maps), head.grid(pyramid)
    stride_A = torch.tensor(STRIDES)[pyramid.level_S].tolist()
    true = pyramid.boxes_of(targets)
    quality = torch.zeros_like(output.logits_BAK)
    pairs = positives(object_BA)
    of_boxes = of_sides = weights = 0.0
    for image, candidate, number in pairs:
        raw, anchor = output.boxes_BAD[image, candidate], grid.boxes_A4[candidate]
        box = slow_box(raw, anchor, stride_A[candidate], bins)
        overlap = box_iou(box[None], true[number : number + 1]).item()
        quality[image, candidate, targets.labels_G[number]] = overlap
        weight = output.logits_BAK[image, candidate].sigmoid().max().item()
        of_boxes = of_boxes + weight * giou_loss(box, true[number])
        of_sides = of_sides + weight * slow_sides(
            raw, anchor, true[number], stride_A[candidate], bins
        )
        weights += weight
    used = object_BA != UNUSED
    entropy = F.binary_cross_entropy_with_logits(output.logits_BAK, quality, reduction="none")
    of_class = (output.logits_BAK.sigmoid() - quality).abs() ** 2 * entropy
    total = max(weights, 1.0)
    return {
        "class": of_class[used].sum() / len(pairs),
        "giou": of_boxes / total,
        "distribution": of_sides / total,
    }


@pytest.mark.parametrize("bins", [16, 3])
def test_losses_and_gradients_are_those_of_the_slow_form(bins):
    head, pyramid, targets = case(
        bins=bins, class_weight=1.5, box_weight=2.5, distribution_weight=0.75
    )
    output = head(pyramid, targets)
    expected = slow_losses(head, pyramid, targets, output.candidates.object_BA, bins)
    weights = {"class": 1.5, "giou": 2.5, "distribution": 0.75}
    assert output.losses.keys() == weights.keys()
    parameters = list(head.parameters())
    for name, weight in weights.items():
        slow = weight * expected[name]
        torch.testing.assert_close(output.losses[name], slow, rtol=1e-4, atol=1e-5)
        both = [
            torch.autograd.grad(x, parameters, allow_unused=True, retain_graph=True)
            for x in (output.losses[name], slow)
        ]
        for found, wanted in zip(*both):
            if wanted is None:  # quality and weights are not differentiated
                assert found is None or not found.any()
            else:
                torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-5)


def test_defaults_are_those_of_the_paper():
    head = GFLHead(num_classes=80, strides=(8, 16, 32, 64, 128))
    assert [head.class_weight, head.box_weight, head.distribution_weight] == [1.0, 2.0, 0.25]
    assert head.tower.boxes.out_channels == 4 * 17
    assert head.assigner.top_k == 9


@pytest.mark.parametrize("bins", [0, 2.5])
def test_bins_are_a_count(bins):
    with pytest.raises(ValueError, match="bins"):
        case(bins=bins)


def test_certain_distances_are_decoded_exactly():
    head, pyramid, _ = case()
    grid = head.grid(pyramid)
    first = grid.counts[0] + 8 + 2  # second level, row 1 of 6 cells, column 4: (64, 16)
    raw = torch.full((4, 17), -100.0)
    for side, distance in enumerate([0, 1, 16, 5]):
        raw[side, distance] = 100.0
    box = head.decode(raw.flatten()[None], grid, torch.tensor([first]))
    torch.testing.assert_close(box, torch.tensor([[32.0, 0.0, 32 + 256.0, 16 + 80.0]]))


def test_expectation_of_even_and_of_sure_distributions():
    even = torch.zeros(1, 4 * 17)
    torch.testing.assert_close(expected_distances(side_logits(even)), torch.full((1, 4), 8.0))
    with torch.autocast("cpu", torch.bfloat16):
        found = expected_distances(side_logits(torch.log(torch.arange(1.0, 6.0)).repeat(1, 4)))
    # Probabilities 1/15 ... 5/15 of 0 ... 4, in full precision.
    torch.testing.assert_close(found, torch.full((1, 4), 40 / 15), rtol=1e-6, atol=0)


def test_distribution_focal_loss_of_known_distances():
    logs = torch.tensor([0.1, 0.2, 0.3, 0.4]).log()
    logits = logs.expand(1, 4, 4)
    found = distribution_focal_losses(logits, torch.tensor([[0.25, 2.0, 3.0, 9.0]]))
    expected = -(0.75 * logs[0] + 0.25 * logs[1] + logs[2] + logs[3] + logs[3]) / 4
    torch.testing.assert_close(found, expected[None])
    # Below zero counts as zero.
    found = distribution_focal_losses(logits, torch.full((1, 4), -0.5))
    torch.testing.assert_close(found, -logs[:1])


def test_distribution_focal_loss_is_least_at_the_true_distance():
    logits = torch.zeros(1, 4, 6, requires_grad=True)
    distances = torch.tensor([[0.0, 1.3, 2.5, 4.9]])
    optimizer = torch.optim.Adam([logits], lr=0.3)
    for _ in range(200):
        optimizer.zero_grad()
        distribution_focal_losses(logits, distances).sum().backward()
        optimizer.step()
    torch.testing.assert_close(expected_distances(logits), distances, rtol=0, atol=0.03)


def test_quality_focal_loss_of_known_scores():
    targets = targets_of(maps_for([(32, 32)]), [[(1, 0, 0, 16, 16)]])
    # One positive with quality 0.8, one background, one unused; all scores are 0.5.
    object_BA = torch.tensor([[0, -1, -2]])
    logits = torch.zeros(1, 3, 2)
    loss = quality_focal_loss(logits, object_BA, Pairs.of(object_BA), targets, torch.tensor([0.8]))
    # The entropy is log 2 everywhere; misses are 0.3 once, and 0.5 in three places.
    torch.testing.assert_close(loss, torch.tensor((0.09 + 3 * 0.25) * math.log(2)))


def test_quality_is_the_best_score():
    targets = targets_of(maps_for([(32, 32)]), [[(1, 0, 0, 16, 16)]])
    object_BA = torch.tensor([[0]])
    scores = torch.tensor([0.1, 0.5, 0.69, 0.71, 0.9], requires_grad=True)
    slopes = []
    for score in scores:
        logits = torch.stack([torch.tensor(-50.0), score.logit()])[None, None]
        pairs = Pairs.of(object_BA)
        loss = quality_focal_loss(logits, object_BA, pairs, targets, torch.tensor([0.7]))
        slopes.append(torch.autograd.grad(loss, scores)[0].sum().item())
    assert [slope > 0 for slope in slopes] == [False, False, False, True, True]
