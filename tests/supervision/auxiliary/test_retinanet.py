"""The head of RetinaNet: who is to find what beside a loop, losses beside a slow form."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
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
from torchvision.ops import sigmoid_focal_loss

from ms_detr.supervision.auxiliary import BACKGROUND, UNUSED, RetinaNetHead
from ms_detr.supervision.auxiliary.anchors import AnchorGrid


def make(**others):
    torch.manual_seed(1)
    return RetinaNetHead(
        num_classes=NUM_CLASSES, strides=STRIDES, embed_dim=CHANNELS, num_groups=8, **others
    )


def grid_of(*anchors):
    """A grid of these boxes, on one level."""
    return AnchorGrid(
        boxes_A4=torch.tensor(anchors, dtype=torch.float32),
        token_A=torch.arange(len(anchors)),
        counts=(len(anchors),),
        on_image_BA=torch.ones(1, len(anchors), dtype=torch.bool),
    )


def assigned(objects, *anchors):
    return make().assign(grid_of(*anchors), torch.tensor(objects, dtype=torch.float32)).tolist()


def iou(true, anchor):
    """In single precision, which decides what overlaps equally."""
    true, anchor = (np.array(box, dtype=np.float32) for box in (true, anchor))
    width = max(np.float32(0), min(true[2], anchor[2]) - max(true[0], anchor[0]))
    height = max(np.float32(0), min(true[3], anchor[3]) - max(true[1], anchor[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (true, anchor)]
    return width * height / (areas[0] + areas[1] - width * height)


def slow_assignment(anchors, objects):
    """Anchor by anchor, then object by object."""
    nearest, labels = [], []
    for anchor in anchors:
        overlaps = [iou(true, anchor) for true in objects]
        best = max(overlaps)
        nearest.append(overlaps.index(best))
        labels.append(BACKGROUND if best < 0.4 else UNUSED if best < 0.5 else nearest[-1])
    for true in objects:
        overlaps = [iou(true, anchor) for anchor in anchors]
        best = max(overlaps)
        for number, overlap in enumerate(overlaps):
            if overlap == best > 0:
                labels[number] = nearest[number]
    return labels


# -------------------------------------------------------------------------------- the assignment


def random_objects(rng, height, width, count):
    """Objects of all sizes and shapes; one in three is as an anchor is, so that there are ties."""
    objects = []
    for _ in range(count):
        if rng.random() < 1 / 3:
            x, y, side = 8 * rng.randrange(width // 8), 8 * rng.randrange(height // 8), 16
            objects.append([x - side, y - side, x + side, y + side])
            continue
        w, h = (math.exp(rng.uniform(math.log(0.5), math.log(side))) for side in (width, height))
        x, y = rng.uniform(0, width - w), rng.uniform(0, height - h)
        objects.append([x, y, x + w, y + h])
    return objects + objects[:1]  # one of them twice


@pytest.mark.parametrize("seed", range(6))
def test_assignment_is_that_of_the_loop(seed):
    rng = random.Random(seed)
    height, width = rng.randrange(40, 130), rng.randrange(40, 130)
    grid = make().grid(maps_for([(height, width)], channels=1))
    objects = random_objects(rng, height, width, rng.randrange(1, 7))
    object_A = make().assign(grid, torch.tensor(objects, dtype=torch.float32))
    assert object_A.tolist() == slow_assignment(grid.boxes_A4.tolist(), objects)
    assert object_A.max() >= 0


def test_thresholds():
    anchors = [[0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 4.99], [0, 0, 10, 4], [0, 0, 10, 3.99]]
    found = assigned([[0, 0, 10, 10]], *anchors, [20, 20, 30, 30])
    assert found == [0, 0, UNUSED, UNUSED, BACKGROUND, BACKGROUND]


def test_the_best_anchors_of_an_object_are_positive_however_bad():
    # The first and the last overlap the object equally.
    anchors = [[0, 0, 10, 10], [0, 0, 20, 20], [30, 30, 40, 40], [-6, -6, 4, 4]]
    assert assigned([[1, 1, 3, 3]], *anchors) == [0, BACKGROUND, BACKGROUND, 0]


def test_an_anchor_that_is_the_best_of_two_objects_finds_the_one_it_overlaps_more():
    found = assigned([[4, 4, 6, 6], [0, 0, 10, 9]], [0, 0, 10, 10], [0, 0, 40, 40])
    assert found == [1, BACKGROUND]


def test_the_best_anchor_of_an_object_may_find_another():
    # The second anchor would be background, were it not the best of the second object; but it has
    # more of the first.
    found = assigned([[0, 0, 10, 10], [12, 0, 14, 2]], [0, 0, 10, 10], [0, 0, 30, 10])
    assert found == [0, 0]
    assert assigned([[0, 0, 10, 10]], [0, 0, 10, 10], [0, 0, 30, 10]) == [0, BACKGROUND]


def test_of_two_equal_objects_the_first_is_found():
    assert assigned([[0, 0, 10, 10]] * 2, [0, 0, 10, 10], [50, 0, 60, 10]) == [0, BACKGROUND]


def test_an_object_that_no_anchor_overlaps_has_no_positive():
    anchors = [[0, 0, 10, 10], [20, 0, 30, 10]]
    assert assigned([[12, 0, 13, 1]], *anchors) == [BACKGROUND] * 2
    assert assigned([[12, 0, 13, 1], [0, 0, 9, 10]], *anchors) == [1, BACKGROUND]


def test_a_tiny_object_has_positives():
    grid = make().grid(maps_for([(64, 64)], channels=1))
    object_A = make().assign(grid, torch.tensor([[13.0, 13.0, 13.5, 13.5]]))
    area_A = (grid.boxes_A4[:, 2:] - grid.boxes_A4[:, :2]).prod(1)
    positive_A = object_A == 0
    assert positive_A.any()
    # They are of the smallest ones: the object lies in many, and the union is the anchor.
    torch.testing.assert_close(area_A[positive_A].max(), area_A.min(), rtol=1e-5, atol=0)


# ------------------------------------------------------------------------------------ the losses


def to_box(raw_4, anchor_4):
    """R-CNN's transform without weights."""
    width, height = anchor_4[2] - anchor_4[0], anchor_4[3] - anchor_4[1]
    x = (anchor_4[0] + anchor_4[2]) / 2 + raw_4[0] * width
    y = (anchor_4[1] + anchor_4[3]) / 2 + raw_4[1] * height
    w, h = width * raw_4[2].exp(), height * raw_4[3].exp()
    return torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2])


def case(**weights):
    head = make(**weights)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    pyramid = maps_for(SIZES)
    return head, pyramid, targets_of(pyramid, OBJECTS, dtype=torch.float32)


def test_losses_and_gradients_are_those_of_the_slow_form():
    head, pyramid, targets = case(class_weight=1.5, box_weight=2.5)
    found = head(pyramid, targets)
    object_BA = found.candidates.object_BA
    output, anchors = head.tower(pyramid.maps), head.grid(pyramid).boxes_A4
    true = pyramid.boxes_of(targets)
    one_hot = torch.zeros_like(output.logits_BAK)
    of_boxes, pairs = 0.0, positives(object_BA)
    for image, candidate, number in pairs:
        one_hot[image, candidate, targets.labels_G[number]] = 1
        box = to_box(output.boxes_BAD[image, candidate], anchors[candidate])
        of_boxes += giou_loss(box, true[number])
    used = object_BA != UNUSED
    of_class = sigmoid_focal_loss(output.logits_BAK[used], one_hot[used], reduction="sum")
    expected = {"class": 1.5 * of_class / len(pairs), "giou": 2.5 * of_boxes / len(pairs)}
    assert len(pairs) > 10
    assert found.losses.keys() == expected.keys()
    torch.testing.assert_close(found.losses, expected, rtol=1e-4, atol=1e-5)
    parameters = list(head.parameters())
    fast, slow = (
        torch.autograd.grad(sum(losses.values()), parameters) for losses in (found.losses, expected)
    )
    torch.testing.assert_close(fast, slow, rtol=1e-3, atol=1e-4)


def test_losses_of_a_head_that_says_nothing():
    head, pyramid, targets = case(class_weight=1.0, box_weight=1.0)
    for parameter in head.tower.parameters():
        torch.nn.init.zeros_(parameter)
    found = head(pyramid, targets)
    pairs = positives(found.candidates.object_BA)
    background = (found.candidates.object_BA == BACKGROUND).sum()
    # Every score is a half, and every box its anchor.
    cells = 0.25 * len(pairs) + 0.75 * (len(pairs) * (NUM_CLASSES - 1) + background * NUM_CLASSES)
    torch.testing.assert_close(found.losses["class"], cells * math.log(2) / 4 / len(pairs))
    anchors, true = head.grid(pyramid).boxes_A4, pyramid.boxes_of(targets)
    expected = sum(giou_loss(anchors[a], true[g]) for _, a, g in pairs) / len(pairs)
    torch.testing.assert_close(found.losses["giou"], expected)


def test_ignored_anchors_teach_nothing():
    head, pyramid, targets = case()
    grid, output = head.grid(pyramid), head.tower(pyramid.maps)
    boxes_G4 = pyramid.boxes_of(targets)
    object_BA = head.assigned(output, grid, targets, boxes_G4)
    ignored_BA = (object_BA == UNUSED) & grid.on_image_BA
    assert ignored_BA.any()
    leaves = [x.detach().requires_grad_() for x in (output.logits_BAK, output.boxes_BAD)]
    losses = head.losses(type(output)(*leaves, None), grid, object_BA, targets, boxes_G4)
    of_logits, of_boxes = torch.autograd.grad(sum(losses.values()), leaves)
    assert torch.equal(of_logits.abs().sum(-1) > 0, object_BA != UNUSED)
    assert torch.equal(of_boxes.abs().sum(-1) > 0, object_BA >= 0)


# -------------------------------------------------------------------------------------- the head


def test_anchors_of_the_paper():
    head = RetinaNetHead(num_classes=80, strides=(8, 16, 32, 64, 128))
    anchors = torch.stack([boxes.double() for boxes in head.anchors.cell_anchors])
    width, height = (anchors[..., 2:] - anchors[..., :2]).unbind(-1)
    sides = (width * height).sqrt()
    octaves = torch.tensor([2 ** (third / 3) for third in (0, 1, 2)], dtype=torch.float64)
    base = torch.tensor([32, 64, 128, 256, 512], dtype=torch.float64)
    expected = (base[:, None] * octaves).repeat_interleave(3, 1)
    torch.testing.assert_close(sides, expected, rtol=1e-5, atol=0)
    ratios = torch.tensor([0.5, 1, 2] * 3, dtype=torch.float64).expand(5, 9)
    torch.testing.assert_close(height / width, ratios, rtol=1e-5, atol=0)
    assert head.tower.classes.out_channels == 9 * 80
    assert [head.class_weight * 12, head.box_weight * 12] == [12, 24]


def test_queries_start_from_anchors():
    head, pyramid, targets = case()
    candidates = head(pyramid, targets).candidates
    expected = head.grid(pyramid).boxes_A4.expand(len(SIZES), -1, -1)
    assert torch.equal(candidates.boxes_BA4, expected)
    # All anchors of a cell have its feature.
    cells = [math.prod(shape) for shape in pyramid.shapes]
    assert candidates.token_A.tolist() == [cell for cell in range(sum(cells)) for _ in range(9)]


def test_boxes_are_deltas_to_anchors():
    head, pyramid, _ = case()
    grid = head.grid(pyramid)
    candidates, raw = torch.tensor([0, 30, 1500]), torch.randn(3, 4)
    expected = [to_box(row, grid.boxes_A4[a]) for row, a in zip(raw, candidates)]
    torch.testing.assert_close(head.decode(raw, grid, candidates), torch.stack(expected))
    far = head.decode(torch.full((3, 4), 1e4), grid, candidates)
    assert far.isfinite().all()


@pytest.mark.parametrize(("name", "value"), [("scales", (4.0, 0.0)), ("ratios", (-1.0,))])
def test_bad_anchors(name, value):
    with pytest.raises(ValueError, match=f"{name[:-1]} of an auxiliary head's anchors"):
        make(**{name: value})
