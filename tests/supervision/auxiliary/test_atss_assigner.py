"""The assignment of ATSS beside a loop that follows the paper."""

from __future__ import annotations

import random
import statistics

import pytest
import torch
from supervision.auxiliary.dense_cases import maps_for

from ms_detr.supervision.auxiliary.anchors import AnchorGrid, anchor_generator, anchor_grid
from ms_detr.supervision.auxiliary.atss_assigner import ATSSAssigner

STRIDES = (8, 16, 32, 64)


def grid_for(size, dtype, strides=STRIDES):
    """All anchors of one image."""
    generator = anchor_generator(strides, [8.0], [1.0])
    return anchor_grid(generator, maps_for([size], strides, channels=1, dtype=dtype))


def iou(first, second):
    width = max(0.0, min(first[2], second[2]) - max(first[0], second[0]))
    height = max(0.0, min(first[3], second[3]) - max(first[1], second[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return width * height / (sum(areas) - width * height)


def center(box):
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def slow_atss(grid: AnchorGrid, objects, top_k: int) -> list[int]:
    """Object by object, level by level, anchor by anchor."""
    anchors = grid.boxes_A4.tolist()
    best = [(-1.0, -1)] * len(anchors)
    for number, box in enumerate(objects):
        x, y = center(box)
        candidates, first = [], 0
        for count in grid.counts:
            level = []
            for anchor in range(first, first + count):
                ax, ay = center(anchors[anchor])
                level.append(((ax - x) ** 2 + (ay - y) ** 2, anchor))
            candidates += [anchor for _, anchor in sorted(level)[:top_k]]
            first += count
        overlaps = [iou(anchors[anchor], box) for anchor in candidates]
        deviation = statistics.stdev(overlaps) if len(overlaps) > 1 else 0.0
        threshold = statistics.fmean(overlaps) + deviation
        for anchor, overlap in zip(candidates, overlaps):
            ax, ay = center(anchors[anchor])
            inside = min(ax - box[0], ay - box[1], box[2] - ax, box[3] - ay) > 0.01
            if overlap >= threshold and inside and overlap > best[anchor][0]:
                best[anchor] = (overlap, number)
    return [number for _, number in best]


def check(grid: AnchorGrid, objects, top_k: int = 9) -> list[int]:
    boxes = torch.tensor(objects, dtype=grid.boxes_A4.dtype)
    found = ATSSAssigner(top_k)(grid, boxes).tolist()
    assert found == slow_atss(grid, boxes.tolist(), top_k)
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("top_k", [1, 4, 9, 30])
def test_random_objects(dtype, top_k):
    draw = random.Random(top_k)
    positives = 0
    for _ in range(8):
        height, width = draw.randint(20, 200), draw.randint(20, 200)
        objects = []
        for _ in range(draw.randint(1, 12)):
            x, y = draw.uniform(0, width), draw.uniform(0, height)
            w, h = draw.uniform(1, width), draw.uniform(1, height)
            objects.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
        found = check(grid_for((height, width), dtype), objects, top_k)
        positives += sum(number >= 0 for number in found)
    assert positives > 8


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ties(dtype):
    # Centres between and on those of anchors: up to eight are equally near.
    grid = grid_for((96, 128), dtype)
    for x, y in [(32, 32), (36, 36), (40, 36), (64, 64), (48, 32)]:
        for w, h in [(32, 32), (48, 24), (64, 64)]:
            for top_k in (1, 2, 3, 5, 6, 7):
                check(grid, [[x - w / 2, y - h / 2, x + w / 2, y + h / 2]], top_k)


def test_of_equal_objects_the_first_gets_the_anchors():
    grid = grid_for((128, 128), torch.float32)
    box = [21.0, 17.0, 83.0, 90.0]
    once, twice = check(grid, [box]), check(grid, [box, box])
    assert once == twice
    assert max(once) == 0


def test_an_anchor_of_two_objects_takes_the_one_with_the_larger_iou():
    grid = grid_for((128, 128), torch.float32)
    exact, larger = [32.0, 32.0, 96.0, 96.0], [28.0, 28.0, 100.0, 100.0]
    anchor = grid.boxes_A4.tolist().index(exact)
    for objects, winner in ([[exact, larger], 0], [[larger, exact], 1]):
        assert check(grid, [objects[1 - winner]])[anchor] == 0
        assert check(grid, objects)[anchor] == winner


def test_many_objects_over_each_other():
    draw = random.Random(0)
    objects = []
    for _ in range(40):
        x, y, w, h = (draw.gauss(mean, 4) for mean in (64, 64, 60, 60))
        objects.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
    found = check(grid_for((128, 128), torch.float64), objects)
    assert len({number for number in found if number >= 0}) > 5


def test_a_box_that_holds_no_centre_gets_nothing():
    grid = grid_for((64, 64), torch.float32)
    assert set(check(grid, [[3.0, 3.0, 5.0, 5.0]])) == {-1}
    # Nor does one with a centre on its border.
    assert set(check(grid, [[8.0, 8.0, 15.0, 15.0]])) == {-1}
    # A little larger, it holds the centre (8, 8) of two levels.
    assert check(grid, [[7.5, 7.5, 15.0, 15.0]])[9] == 0


def test_levels_with_fewer_anchors_than_candidates():
    grid = grid_for((40, 40), torch.float64)
    assert grid.counts == (25, 9, 4, 1)
    assert max(check(grid, [[2.0, 4.0, 38.0, 33.0]])) == 0


def test_a_single_anchor_deviates_by_nothing():
    grid = AnchorGrid(
        boxes_A4=torch.tensor([[0.0, 0.0, 10.0, 10.0]]),
        token_A=torch.tensor([0]),
        counts=(1,),
        on_image_BA=torch.ones(1, 1, dtype=torch.bool),
    )
    assert check(grid, [[2.0, 2.0, 30.0, 30.0]]) == [0]
    assert check(grid, [[6.0, 2.0, 30.0, 30.0]]) == [-1]


@pytest.mark.parametrize("top_k", [0, -1, 1.5, True])
def test_top_k_is_a_count(top_k):
    with pytest.raises(ValueError, match="top_k"):
        ATSSAssigner(top_k)
