"""Targets: what one batch of ground truth becomes."""

import torch
from detectron2.structures import Boxes, Instances
from small_models import item

from ms_detr.structures import Targets


def instances(size, boxes, classes):
    found = Instances(size)
    found.gt_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    found.gt_classes = torch.tensor(classes, dtype=torch.int64)
    return found


def test_boxes_are_fractions_of_their_own_image():
    # 10..30 of 100 wide: centre 0.2, width 0.2; 5..15 of 50 high: centre 0.2, height 0.2
    first = instances((50, 100), [[10, 5, 30, 15]], [3])
    second = instances((10, 20), [[0, 0, 20, 10], [5, 0, 15, 5]], [0, 1])
    targets = Targets.from_instances([first, second])
    expected = [[0.2, 0.2, 0.2, 0.2], [0.5, 0.5, 1, 1], [0.5, 0.25, 0.5, 0.5]]
    torch.testing.assert_close(targets.boxes_G4, torch.tensor(expected))
    assert targets.labels_G.tolist() == [3, 0, 1]
    assert targets.counts == (1, 2)
    assert targets.num_boxes.item() == 3


def test_no_objects_at_all_divide_by_one():
    targets = Targets.from_instances([instances((10, 10), [], []), instances((10, 10), [], [])])
    assert targets.counts == (0, 0)
    assert targets.boxes_G4.shape == (0, 4)
    assert targets.num_boxes.item() == 1


def test_objectness_is_a_new_value():
    targets = Targets.from_instances([item(20, 30, 4)["instances"]])
    before = targets.labels_G.clone()
    assert before.any()
    assert not targets.as_objectness().labels_G.any()
    assert torch.equal(targets.labels_G, before)


def test_every_object_knows_its_image():
    targets = Targets(torch.zeros(5), torch.zeros(5, 4), (0, 2, 0, 3), torch.tensor(5.0))
    assert targets.image_G.tolist() == [1, 1, 3, 3, 3]
    assert targets.image_G.dtype == torch.int64
    assert targets.as_objectness().image_G.tolist() == [1, 1, 3, 3, 3]
    empty = Targets(torch.zeros(0), torch.zeros(0, 4), (0, 0), torch.tensor(1.0))
    assert empty.image_G.shape == (0,) and empty.image_G.dtype == torch.int64


def test_in_layers():
    """Three objects in images of 2, 0 and 1, in two layers."""
    boxes = torch.rand(3, 4)
    targets = Targets(torch.tensor([4, 5, 6]), boxes, (2, 0, 1), torch.tensor(3.0))
    found = targets.in_layers(2)
    assert found.labels_G.tolist() == [4, 5, 6, 4, 5, 6]
    assert found.image_G.tolist() == [0, 0, 2, 3, 3, 5]
    assert found.counts == (2, 0, 1, 2, 0, 1) and found.num_boxes == 3
    assert torch.equal(found.boxes_G4[3:], boxes)
    assert targets.in_layers(2) is found  # made once


def test_parts():
    targets = Targets(torch.arange(7), torch.rand(7, 4), (2, 0, 4, 1), torch.tensor(7.0))
    assert targets.parts(7) == [targets]
    parts = targets.parts(3)
    assert [part.labels_G.tolist() for part in parts] == [[0, 1, 2], [3, 4, 5], [6]]
    assert [part.image_G.tolist() for part in parts] == [[0, 0, 2], [2, 2, 2], [3]]
    assert [part.counts for part in parts] == [(2, 0, 1, 0), (0, 0, 3, 0), (0, 0, 0, 1)]
    assert torch.equal(torch.cat([part.boxes_G4 for part in parts]), targets.boxes_G4)
