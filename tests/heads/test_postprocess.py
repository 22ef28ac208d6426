"""Selection of detections: by hand, and against recorded predictions of the official code."""

import numpy as np
import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.structures import Instances
from small_models import CONFIGS, load

from ms_detr.config import load_config
from ms_detr.heads import ClippedDetections, NMSDetections, TopKDetections
from ms_detr.structures import LayerPredictions

SIZES = [(480, 640), (427, 321)]  # of the pictures; they have nothing to do with the input


def predictions(logits, boxes, dtype=torch.float32):
    return LayerPredictions(torch.tensor([logits], dtype=dtype), torch.tensor([boxes], dtype=dtype))


def test_best_pairs_of_query_and_class_in_pixels():
    logits = [[2.0, -1.0, 1.0], [-3.0, 0.0, -4.0]]
    boxes = [[0.5, 0.5, 0.2, 0.4], [0.25, 0.75, 0.5, 0.5]]
    (found,) = TopKDetections(3)(predictions(logits, boxes), [(100, 200)])
    assert found.pred_classes.tolist() == [0, 2, 1]
    torch.testing.assert_close(found.scores, torch.tensor([2.0, 1.0, 0.0]).sigmoid())
    first, third = [80.0, 30, 120, 70], [0.0, 50, 100, 100]
    torch.testing.assert_close(found.pred_boxes.tensor, torch.tensor([first, first, third]))
    assert found.image_size == (100, 200)


@pytest.mark.parametrize("postprocess", [TopKDetections(), NMSDetections()])
def test_boxes_beyond_the_image_and_empty_ones_stay_as_they_are(postprocess):
    boxes = [[0.1, 0.9, 0.4, 0.4], [0.5, 0.5, 0.0, 0.2], [1.0, 0.0, 0.0, 0.0]]
    given = predictions([[3.0], [2.0], [1.0]], boxes)
    (found,) = postprocess(given, [(10, 100)])
    expected = [[-10.0, 7, 30, 11], [50, 4, 50, 6], [100, 0, 100, 0]]
    torch.testing.assert_close(found.pred_boxes.tensor, torch.tensor(expected))
    (clipped,) = ClippedDetections(postprocess)(given, [(10, 100)])
    torch.testing.assert_close(clipped.pred_boxes.tensor, torch.tensor([[0.0, 7, 30, 10]]))
    assert clipped.scores.tolist() == found.scores[:1].tolist()
    assert clipped.image_size == (10, 100)


@pytest.mark.parametrize("postprocess", [TopKDetections(50), NMSDetections(50)])
def test_fewer_pairs_than_wanted_gives_all(postprocess):
    (found,) = postprocess(predictions([[0.0, 1.0]], [[0.5, 0.5, 1.0, 1.0]]), [(10, 10)])
    assert found.pred_classes.tolist() == [1, 0]


@pytest.mark.parametrize(
    "postprocess", [TopKDetections(), NMSDetections(), ClippedDetections(NMSDetections())]
)
@pytest.mark.parametrize("queries, classes", [(0, 3), (2, 0)])
def test_nothing_to_choose_from_gives_empty_instances(postprocess, queries, classes):
    given = LayerPredictions(torch.zeros(2, queries, classes), torch.zeros(2, queries, 4))
    for found, size in zip(postprocess(given, SIZES), SIZES, strict=True):
        assert isinstance(found, Instances) and len(found) == 0 and found.image_size == size
        assert found.pred_boxes.tensor.shape == (0, 4) and found.scores.shape == (0,)
    none = LayerPredictions(torch.zeros(0, 5, 3), torch.zeros(0, 5, 4))
    assert postprocess(none, []) == []


@pytest.mark.parametrize("postprocess", [TopKDetections(), NMSDetections()])
def test_every_image_needs_a_size(postprocess):
    given = predictions([[0.0]], [[0.5, 0.5, 1.0, 1.0]])
    with pytest.raises(ValueError, match="predictions of 1 images, but 2 output sizes"):
        postprocess(given, SIZES)


@pytest.mark.parametrize("kind", [TopKDetections, NMSDetections])
def test_zero_detections_is_refused(kind):
    with pytest.raises(ValueError, match="num_detections must be at least 1, got 0"):
        kind(0)


@pytest.mark.parametrize("threshold", [-0.1, 1.5, float("nan")])
def test_a_threshold_that_no_overlap_can_have_is_refused(threshold):
    with pytest.raises(ValueError, match=r"iou_threshold must be in \[0, 1\], got"):
        NMSDetections(iou_threshold=threshold)


def test_suppression_is_within_a_class_and_in_the_pixels_of_the_output():
    # the overlap of the first two is 2/3: of the third with the first 1/2
    boxes = [[0.5, 0.5, 0.6, 0.2], [0.62, 0.5, 0.6, 0.2], [0.7, 0.5, 0.6, 0.2]]
    logits = [[3.0, 1.0], [2.0, 1.5], [-9.0, 0.5]]
    found = {}
    for threshold in (0.6, 0.7):
        (found[threshold],) = NMSDetections(10, threshold)(predictions(logits, boxes), [(50, 200)])
    scores = torch.tensor([3.0, 1.5, -9.0]).sigmoid()
    torch.testing.assert_close(found[0.6].scores, scores)
    assert found[0.6].pred_classes.tolist() == [0, 1, 0]
    assert len(found[0.7]) == 4  # of class 1 the third goes with 0.75 of the second
    (best,) = NMSDetections(2, 0.6)(predictions(logits, boxes), [(50, 200)])
    torch.testing.assert_close(best.scores, scores[:2])


def test_boxes_beyond_the_image_do_not_meet_those_of_another_class():
    # moved by the largest coordinate, as torchvision parts classes, they would overlap by 0.24
    boxes = [[0.75, 0.75, 0.5, 0.5], [0.0, 0.0, 1.0, 1.0]]
    given = predictions([[3.0, -50.0], [-50.0, 2.0]], boxes)
    (found,) = NMSDetections(2, 0.2)(given, [(100, 100)])
    torch.testing.assert_close(found.scores, torch.tensor([3.0, 2.0]).sigmoid())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_predictions_of_any_type(dtype):
    for postprocess in (TopKDetections(), NMSDetections()):
        (found,) = postprocess(predictions([[2.0]], [[0.5, 0.5, 0.5, 0.5]], dtype), [(8, 8)])
        assert found.scores.dtype == dtype
        assert found.pred_boxes.tensor.tolist() == [[2, 2, 6, 6]]


# the published rules once more, in plain numpy


def ranked(logits, boxes, size):
    """All (query, class) pairs, best first."""
    score = 1 / (1 + np.exp(-logits.reshape(-1)))
    order = np.argsort(-score, kind="stable")
    query, label = np.divmod(order, logits.shape[1])
    height, width = size
    x, y, w, h = boxes[query].T
    corners = np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 1)
    return score[order], label, corners * [width, height, width, height]


def greedy(score, label, corners, threshold):
    """Positions of what non-maximum suppression keeps, one class after the other."""
    kept = []
    area = np.prod(corners[:, 2:] - corners[:, :2], 1)
    for chosen in np.unique(label):
        rest = np.flatnonzero(label == chosen)
        while len(rest):
            best, rest = rest[0], rest[1:]
            kept.append(best)
            low = np.maximum(corners[best, :2], corners[rest, :2])
            high = np.minimum(corners[best, 2:], corners[rest, 2:])
            common = np.prod(np.maximum(high - low, 0), 1)
            rest = rest[common / (area[best] + area[rest] - common) <= threshold]
    return np.sort(kept)  # the pairs were in the order of their scores


@pytest.fixture(scope="module", params=["ms_detr_c_A", "ms_detr_pp_300_A"])
def recorded(request, shared):
    file = shared / "golden" / f"{request.param}.npz"
    if not file.is_file():
        pytest.skip(f"no recorded values at {file}")
    values = np.load(file)
    logits = values["o2o_logits.f64r"][-1].astype(np.float64)
    # they were rounded to float32, which made some equal: no rule says which of those comes first
    logits += 1e-12 * np.arange(logits[0].size).reshape(logits[0].shape)
    return logits, values["o2o_boxes.f64"][-1]


def test_overlaps_close_to_the_threshold_in_the_last_of_many_classes():
    # pairs of boxes of 4 pixels, moved such that the overlap is 0.7 plus or minus 0.0005
    rng = np.random.default_rng(0)
    overlap = 0.7 + 5e-4 * np.array([-1, 1, -1, 1, -1, 1])
    first = np.concatenate([rng.uniform(0.1, 0.9, (6, 2)), np.full((6, 2), 4 / 1333)], 1)
    second = first.copy()
    second[:, 0] += first[:, 2] * (1 - overlap) / (1 + overlap)
    boxes = np.concatenate([first, second]).astype(np.float32)
    logits = rng.standard_normal((12, 80)).astype(np.float32)
    given = LayerPredictions(torch.from_numpy(logits)[None], torch.from_numpy(boxes)[None])
    (found,) = NMSDetections(1000)(given, [(1333, 1333)])
    best = ranked(logits.astype(np.float64), boxes.astype(np.float64), (1333, 1333))
    kept = greedy(*best, 0.7)
    assert len(kept) == 9 * 80  # one box goes of three of the six pairs
    np.testing.assert_allclose(found.scores, best[0][kept], rtol=1e-6)
    np.testing.assert_array_equal(found.pred_classes, best[1][kept])


def same(found, score, label, corners, size):
    assert found.image_size == size
    np.testing.assert_allclose(found.scores, score, rtol=1e-12)
    np.testing.assert_array_equal(found.pred_classes, label)
    # detectron2's Boxes are float32 whatever they are made of
    np.testing.assert_allclose(found.pred_boxes.tensor, corners, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("count", [100, 300])
def test_best_of_the_recorded_predictions(recorded, count):
    logits, boxes = recorded
    given = LayerPredictions(torch.from_numpy(logits), torch.from_numpy(boxes))
    for image, found in enumerate(TopKDetections(count)(given, SIZES)):
        rule = ranked(logits[image], boxes[image], SIZES[image])
        same(found, *(part[:count] for part in rule), SIZES[image])
        assert (found.pred_boxes.tensor < 0).any()  # some do reach beyond the image


@pytest.mark.parametrize("threshold", [0.3, 0.7])
@pytest.mark.parametrize("count", [100, 10_000])
def test_suppression_of_the_recorded_predictions(recorded, threshold, count):
    logits, boxes = recorded
    given = LayerPredictions(torch.from_numpy(logits), torch.from_numpy(boxes))
    assert logits[0].size > 10_000
    for image, found in enumerate(NMSDetections(count, threshold)(given, SIZES)):
        best = [part[:10_000] for part in ranked(logits[image], boxes[image], SIZES[image])]
        kept = greedy(*best, threshold)[:count]
        assert len(kept) < 10_000 and (kept[:100] != np.arange(100)).any()  # some did go
        same(found, *(part[kept] for part in best), SIZES[image])


def test_the_override_of_the_documentation_works():
    words = NMSDetections.__doc__.split("``")[1].split()
    assert len(words) == 2
    cfg = load_config(CONFIGS / "models/deformable_detr.py", words)
    found = instantiate(cfg.model.postprocess)
    assert isinstance(found, NMSDetections)
    assert (found.num_detections, found.iou_threshold) == (100, 0.7)
    words[1] = "+" + words[1].replace("0.7", "0.5")
    cfg = load_config(CONFIGS / "models/deformable_detr.py", words)
    assert instantiate(cfg.model.postprocess).iou_threshold == 0.5


def test_clipping_wraps_what_a_config_has():
    model = load("models/deformable_detr.py").model
    model.postprocess = L(ClippedDetections)(detections=model.postprocess)
    model.postprocess.detections.num_detections = 7
    found = instantiate(model.postprocess)
    assert isinstance(found.detections, TopKDetections) and found.detections.num_detections == 7
