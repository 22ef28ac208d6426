"""Selection of detections."""

import pytest
import torch

from ms_detr.heads import TopKDetections
from ms_detr.structures import LayerPredictions


def predictions(logits, boxes):
    return LayerPredictions(torch.tensor([logits]), torch.tensor([boxes]))


def test_best_pairs_of_query_and_class_in_pixels():
    logits = [[2.0, -1.0, 1.0], [-3.0, 0.0, -4.0]]
    boxes = [[0.5, 0.5, 0.2, 0.4], [0.25, 0.75, 0.5, 0.5]]
    (found,) = TopKDetections(3)(predictions(logits, boxes), [(100, 200)])
    assert found.pred_classes.tolist() == [0, 2, 1]
    torch.testing.assert_close(found.scores, torch.tensor([2.0, 1.0, 0.0]).sigmoid())
    first, third = [80.0, 30, 120, 70], [0.0, 50, 100, 100]
    torch.testing.assert_close(found.pred_boxes.tensor, torch.tensor([first, first, third]))
    assert found.image_size == (100, 200)


def test_fewer_pairs_than_wanted_gives_all():
    (found,) = TopKDetections(50)(predictions([[0.0, 1.0]], [[0.5, 0.5, 1.0, 1.0]]), [(10, 10)])
    assert found.pred_classes.tolist() == [1, 0]


def test_zero_detections_is_refused():
    with pytest.raises(ValueError, match="num_detections must be at least 1, got 0"):
        TopKDetections(0)
