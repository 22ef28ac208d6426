"""The head of FCOS: who is to find what beside a loop, losses beside a slow form."""

from __future__ import annotations

import math
import random

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
from torchvision.ops import sigmoid_focal_loss

from ms_detr.supervision.auxiliary import BACKGROUND, FCOSHead


def make(**others):
    torch.manual_seed(1)
    arguments = {
        "num_classes": NUM_CLASSES, "strides": STRIDES, "embed_dim": CHANNELS, "num_groups": 8,
    }  # fmt: skip
    return FCOSHead(**(arguments | others))


def points_of(height, width, strides=STRIDES):
    """(x, y, stride, level) of every cell of an image."""
    return [
        ((column + 0.5) * stride, (row + 0.5) * stride, stride, level)
        for level, stride in enumerate(strides)
        for row in range(-(-height // stride))
        for column in range(-(-width // stride))
    ]


def slow_assignment(points, objects, strides=STRIDES, radius=1.5):
    """Point by point, object by object."""
    labels = []
    for x, y, stride, level in points:
        smallest, label = math.inf, BACKGROUND
        low = 0 if level == 0 else 8 * strides[level - 1]
        high = math.inf if level == len(strides) - 1 else 8 * stride
        for number, (x0, y0, x1, y1) in enumerate(objects):
            # The area around the centre, cut where the object ends.
            center_x, center_y = (x0 + x1) / 2, (y0 + y1) / 2
            left, right = max(x0, center_x - radius * stride), min(x1, center_x + radius * stride)
            top, bottom = max(y0, center_y - radius * stride), min(y1, center_y + radius * stride)
            if not (left < x < right and top < y < bottom):
                continue
            if not low <= max(x - x0, y - y0, x1 - x, y1 - y) <= high:
                continue
            if (x1 - x0) * (y1 - y0) < smallest:
                smallest, label = (x1 - x0) * (y1 - y0), number
        labels.append(label)
    return labels


def assigned(size, objects, **others):
    """The head's assignment, having compared it with that of the loop."""
    head = make(**others)
    strides = others.get("strides", STRIDES)
    grid = head.grid(maps_for([size], strides, channels=1, dtype=torch.float64))
    found = head.assign(grid, torch.tensor(objects, dtype=torch.float64)).tolist()
    points = points_of(*size, strides)
    assert found == slow_assignment(points, objects, strides, head.radius)
    return {
        (x, y, stride): number
        for (x, y, stride, _), number in zip(points, found)
        if number != BACKGROUND
    }


# -------------------------------------------------------------------------------- the assignment


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("radius", [0.6, 1.5, 4.0])
def test_assignment_is_that_of_the_loop(seed, radius):
    rng = random.Random(seed)
    height, width = rng.randrange(40, 400), rng.randrange(40, 400)
    objects = []
    for number in range(rng.randrange(1, 9)):
        w, h = (math.exp(rng.uniform(math.log(0.5), math.log(side))) for side in (width, height))
        if number % 2:  # whole numbers, so that sides and points meet
            w, h = 4 * math.ceil(w / 4), 4 * math.ceil(h / 4)
            x, y = 4 * rng.randrange(width // 4), 4 * rng.randrange(height // 4)
        else:
            x, y = rng.uniform(0, width - w), rng.uniform(0, height - h)
        objects.append((x, y, x + w, y + h))
    objects.append(objects[0])
    assigned((height, width), objects, radius=radius)


def test_an_object_of_known_size():
    # Centre 32, 32; its farthest side is 20 from the centre, so that it is of the first level.
    found = assigned((64, 64), [(12, 20, 52, 44)])
    # Less than 12 from the centre: 28 and 36 are, 20 and 44 are not.
    assert found == {(x, y, 8): 0 for x in (28.0, 36.0) for y in (28.0, 36.0)}


def test_the_area_around_the_centre_ends_with_the_object():
    # 10 pixels wide: the points at 28 and 36 are 4 from the centre, 30 high: those at 20 are not.
    found = assigned((64, 64), [(27, 17, 37, 47)])
    assert found == {(x, y, 8): 0 for x in (28.0, 36.0) for y in (28.0, 36.0)}
    found = assigned((64, 64), [(30, 17, 37, 47)])
    assert found == {(36.0, y, 8): 0 for y in (28.0, 36.0)}


def test_a_side_through_a_point_has_it_outside():
    assert assigned((64, 64), [(28, 28, 36, 36)]) == {}
    assert set(assigned((64, 64), [(27.9, 27.9, 36, 36)])) == {(28.0, 28.0, 8)}


def test_a_tiny_object_between_points_has_no_positive():
    assert assigned((64, 64), [(30, 30, 34, 34)]) == {}


def test_a_size_on_the_border_belongs_to_both_levels():
    # From the point (76, 76) of the first level it is 64 to the right, just as far as that reaches;
    # from (72, 72) of the second it is 68.
    found = assigned((160, 160), [(20, 20, 140, 140)])
    assert found[(76.0, 76.0, 8)] == 0
    assert found[(72.0, 72.0, 16)] == 0
    # Here it is 64 from (72, 72) of the second to the right, where that level begins.
    found = assigned((160, 160), [(10, 10, 136, 136)])
    assert found[(72.0, 72.0, 16)] == 0
    # A little less is of the first level only; other points of the second are farther away.
    found = assigned((160, 160), [(10, 10, 135.9, 135.9)])
    assert (72.0, 72.0, 16) not in found
    assert found[(56.0, 72.0, 16)] == 0


def test_the_last_level_has_no_largest_size():
    strides = (8, 16)
    found = assigned((2000, 2000), [(0, 0, 2000, 2000)], strides=strides)
    assert {stride for *_, stride in found} == {16}


def test_the_smallest_of_several_objects_is_found():
    large, small = (0, 0, 64, 64), (16, 20, 48, 44)
    for objects in ([large, small], [small, large]):
        found = assigned((64, 64), objects)
        assert found[(28.0, 28.0, 8)] == objects.index(small)


def test_of_objects_of_equal_area_the_first_is_found():
    wide, high = (12, 22, 52, 42), (22, 12, 42, 52)
    for objects in ([wide, high], [high, wide]):
        found = assigned((64, 64), objects)
        assert set(found.values()) == {0}
        assert found[(28.0, 28.0, 8)] == 0


def test_ranges_follow_from_strides():
    ranges = make(strides=(8, 16, 32, 64, 128)).ranges
    assert ranges == ((0, 64), (64, 128), (128, 256), (256, 512), (512, math.inf))
    assert make(strides=(4,)).ranges == ((0, math.inf),)


# ------------------------------------------------------------------------------------ the losses


def to_box(raw_4, point):
    x, y, stride, _ = point
    left, top, right, bottom = raw_4.exp() * stride
    return torch.stack([x - left, y - top, x + right, y + bottom])


def case(**weights):
    head = make(**weights)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    pyramid = maps_for(SIZES)
    return head, pyramid, targets_of(pyramid, OBJECTS, dtype=torch.float32)


def test_losses_and_gradients_are_those_of_the_slow_form():
    weights = {"class_weight": 1.5, "box_weight": 2.5, "centerness_weight": 0.5}
    head, pyramid, targets = case(**weights)
    found = head(pyramid, targets)
    object_BA = found.candidates.object_BA
    output, true = head.tower(pyramid.maps), pyramid.boxes_of(targets)
    points = points_of(*(max(sides) for sides in zip(*SIZES)))
    one_hot = torch.zeros_like(output.logits_BAK)
    of_boxes = of_centers = centers = 0.0
    pairs = positives(object_BA)
    for image, candidate, number in pairs:
        one_hot[image, candidate, targets.labels_G[number]] = 1
        x, y, *_ = points[candidate]
        x0, y0, x1, y1 = true[number].tolist()
        sides = [(x - x0, x1 - x), (y - y0, y1 - y)]
        central = math.sqrt(math.prod(min(pair) / max(pair) for pair in sides))
        box = to_box(output.boxes_BAD[image, candidate], points[candidate])
        of_boxes += central * giou_loss(box, true[number])
        score = output.quality_BA[image, candidate].sigmoid()
        of_centers += F.binary_cross_entropy(score, torch.tensor(central))
        centers += central
    used = head.grid(pyramid).on_image_BA
    of_class = sigmoid_focal_loss(output.logits_BAK[used], one_hot[used], reduction="sum")
    expected = {
        "class": 1.5 * of_class / len(pairs),
        "giou": 2.5 * of_boxes / centers,
        "centerness": 0.5 * of_centers / len(pairs),
    }
    assert len(pairs) > 10
    assert found.losses.keys() == expected.keys()
    torch.testing.assert_close(found.losses, expected, rtol=1e-4, atol=1e-5)
    parameters = list(head.parameters())
    fast, slow = (
        torch.autograd.grad(sum(losses.values()), parameters) for losses in (found.losses, expected)
    )
    torch.testing.assert_close(fast, slow, rtol=1e-3, atol=1e-4)


def test_perfect_boxes_have_no_loss():
    head, pyramid, targets = case()
    grid, output = head.grid(pyramid), head.tower(pyramid.maps)
    true = pyramid.boxes_of(targets)
    object_BA = head.assigned(output, grid, targets, true)
    points = points_of(*(max(sides) for sides in zip(*SIZES)))
    raw = output.boxes_BAD.detach().clone()
    for image, candidate, number in positives(object_BA):
        x, y, stride, _ = points[candidate]
        x0, y0, x1, y1 = true[number].tolist()
        sides = torch.tensor([x - x0, y - y0, x1 - x, y1 - y])
        raw[image, candidate] = (sides / stride).log()
    perfect = type(output)(output.logits_BAK, raw, output.quality_BA)
    losses = head.losses(perfect, grid, object_BA, targets, true)
    assert losses["giou"].abs() < 1e-5
    assert losses["centerness"] > 0


# -------------------------------------------------------------------------------------- the head


def test_boxes_are_distances_in_strides():
    head, pyramid, _ = case()
    grid, points = head.grid(pyramid), points_of(128, 128)
    candidates, raw = torch.tensor([0, 17, 300, 335]), torch.randn(4, 4)
    expected = [to_box(row, points[candidate]) for row, candidate in zip(raw, candidates)]
    torch.testing.assert_close(head.decode(raw, grid, candidates), torch.stack(expected))
    # Outputs of zero: squares of two strides around the points.
    zeros = head.decode(torch.zeros(1, 4), grid, torch.tensor([0]))
    assert zeros.tolist() == [[-4.0, -4.0, 12.0, 12.0]]


@pytest.mark.parametrize("value", [-1e30, -100.0, 0.0, 100.0, 1e30])
def test_any_output_gives_a_finite_loss(value):
    head, pyramid, targets = case()
    grid, output = head.grid(pyramid), head.tower(pyramid.maps)
    true = pyramid.boxes_of(targets)
    object_BA = head.assigned(output, grid, targets, true)
    raw = torch.full_like(output.boxes_BAD, value, requires_grad=True)
    extreme = type(output)(output.logits_BAK, raw, output.quality_BA)
    loss = head.losses(extreme, grid, object_BA, targets, true)["giou"]
    (gradient,) = torch.autograd.grad(loss, raw)
    assert loss.isfinite()
    assert gradient.isfinite().all()
    if value == 0:
        assert ((gradient != 0).any(-1) == (object_BA >= 0)).all()


def test_queries_start_from_boxes_around_the_points():
    head, pyramid, targets = case()
    candidates = head(pyramid, targets).candidates
    expected = [
        [x - 4 * stride, y - 4 * stride, x + 4 * stride, y + 4 * stride]
        for x, y, stride, _ in points_of(128, 128)
    ]
    assert candidates.boxes_BA4.tolist() == [expected] * len(SIZES)
    assert candidates.token_A.tolist() == list(range(len(expected)))
    centers = (candidates.boxes_BA4[0, :, :2] + candidates.boxes_BA4[0, :, 2:]) / 2
    assert torch.equal(centers, pyramid.centers_S2)


def test_scores_are_products_with_centerness():
    head, pyramid, _ = case()
    output, grid = head.tower(pyramid.maps), head.grid(pyramid)
    expected = output.logits_BAK.sigmoid() * output.quality_BA.sigmoid()[..., None]
    found = head.predict(pyramid).logits_BNK.sigmoid()
    torch.testing.assert_close(found[grid.on_image_BA], expected[grid.on_image_BA])


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("strides", (16, 8), r"strides of FCOSHead must increase, got \[16, 8\]"),
        ("strides", (8, 8), "must increase"),
        ("strides", (8, 16.5), "strides of FCOSHead must be a whole number"),
        ("strides", (0, 8), "strides of FCOSHead"),
        ("radius", 0.0, "radius of FCOSHead"),
        ("radius", math.inf, "radius of FCOSHead"),
        ("centerness_weight", -1.0, "centerness_weight of FCOSHead"),
    ],
)
def test_bad_arguments(name, value, message):
    with pytest.raises(ValueError, match=message):
        make(**{name: value})
