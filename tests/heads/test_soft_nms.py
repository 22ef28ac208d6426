"""Soft-NMS against the published algorithm, written as loops."""

import dataclasses
import math

import pytest
import torch
from detections import FAMILIES, batch, detect, detector, differences
from detectron2.config import instantiate
from small_models import CONFIGS
from torchvision.ops import box_convert, box_iou

from ms_detr.config import load_config
from ms_detr.heads import (
    ClippedDetections,
    GaussianSoftNMSDetections,
    NMSDetections,
    Postprocess,
    RescoredDetections,
    SoftNMSDetections,
    TopKDetections,
)
from ms_detr.inference import prepare_for_inference
from ms_detr.structures import LayerPredictions

SIZES = [(480, 640), (427, 321)]


def predictions(logits, boxes, dtype=torch.float32):
    return LayerPredictions(torch.tensor([logits], dtype=dtype), torch.tensor([boxes], dtype=dtype))


def crowd(seed=0, queries=60, classes=3, dtype=torch.float64):
    """Boxes of two images that overlap a lot."""
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.rand(2, 8, 4, generator=generator, dtype=dtype) * 0.3 + 0.3
    boxes = boxes[:, torch.randint(0, 8, (queries,), generator=generator)]
    boxes = boxes * (0.9 + 0.2 * torch.rand(boxes.shape, generator=generator, dtype=dtype))
    logits = 2 * torch.randn(2, queries, classes, generator=generator, dtype=dtype)
    return LayerPredictions(logits, boxes)


def slow(given, image, size, decay, *, candidates, detections, min_score):
    """Figure 2 of the paper: (score, query, class) of what remains."""
    height, width = size
    boxes = box_convert(given.boxes_BN4[image], "cxcywh", "xyxy")
    boxes = boxes * torch.tensor([width, height, width, height])
    scores = given.logits_BNK[image].sigmoid().tolist()
    pairs = [[s, q, c] for q, row in enumerate(scores) for c, s in enumerate(row)]
    pairs = sorted(pairs, reverse=True)[:candidates]
    found = []
    while pairs and len(found) < detections:
        pairs.sort(key=lambda pair: -pair[0])
        best = pairs.pop(0)
        if best[0] < min_score:
            break
        found.append(best)
        for pair in pairs:
            if pair[2] == best[2]:
                iou = box_iou(boxes[best[1]][None], boxes[pair[1]][None]).item()
                pair[0] *= decay(iou)
    return found, boxes


CASES = [
    (
        lambda **k: SoftNMSDetections(iou_threshold=0.5, **k),
        lambda iou: 1 - iou if iou >= 0.5 else 1,
    ),
    (lambda **k: SoftNMSDetections(iou_threshold=0.0, **k), lambda iou: 1 - iou),
    (lambda **k: SoftNMSDetections(**k), lambda iou: 1 - iou if iou >= 0.8 else 1),
    (lambda **k: GaussianSoftNMSDetections(**k), lambda iou: math.exp(-iou * iou / 0.5)),
    (lambda **k: GaussianSoftNMSDetections(sigma=0.1, **k), lambda iou: math.exp(-iou * iou / 0.1)),
]


@pytest.mark.parametrize("case", range(len(CASES)))
@pytest.mark.parametrize("limits", [(180, 180, 0.01), (50, 100, 1e-3), (20, 20, 0.3)])
def test_it_is_the_published_algorithm(case, limits):
    make, decay = CASES[case]
    detections, candidates, min_score = limits
    limits = {"num_candidates": candidates, "min_score": min_score}
    postprocess = make(num_detections=detections, **limits)
    given = crowd(case)
    for image, found in enumerate(postprocess(given, SIZES)):
        expected, boxes = slow(
            given, image, SIZES[image], decay,
            candidates=candidates, detections=detections, min_score=min_score,
        )  # fmt: skip
        scores, queries, classes = zip(*expected)
        wanted = torch.tensor(scores, dtype=torch.float64)
        torch.testing.assert_close(found.scores, wanted, rtol=1e-9, atol=0)
        assert found.pred_classes.tolist() == list(classes)
        torch.testing.assert_close(found.pred_boxes.tensor, boxes[list(queries)].float())
        assert (found.scores.diff() <= 0).all() and found.image_size == SIZES[image]


def test_scores_by_hand():
    # the overlap of the first two is 2/3, of the second and third as well, of the others 3/7
    boxes = [[0.5, 0.5, 0.5, 0.2], [0.6, 0.5, 0.5, 0.2], [0.7, 0.5, 0.5, 0.2]]
    logits = torch.tensor([0.9, 0.8, 0.7]).logit()[:, None].tolist()
    (found,) = SoftNMSDetections(3, 0.6)(predictions(logits, boxes), [(100, 100)])
    # the first lowers the second to 0.8 / 3; then the third is the best and lowers it once more
    torch.testing.assert_close(found.scores, torch.tensor([0.9, 0.7, 0.8 / 9]))
    torch.testing.assert_close(found.pred_boxes.tensor[:, 0], torch.tensor([25.0, 45.0, 35.0]))
    (found,) = SoftNMSDetections(3, 0.6, min_score=0.1)(predictions(logits, boxes), [(100, 100)])
    assert len(found) == 2
    (found,) = SoftNMSDetections(3, 0.7)(predictions(logits, boxes), [(100, 100)])
    torch.testing.assert_close(found.scores, torch.tensor([0.9, 0.8, 0.7]))
    (found,) = SoftNMSDetections(2, 0.6, num_candidates=3)(predictions(logits, boxes), [(100, 100)])
    torch.testing.assert_close(found.scores, torch.tensor([0.9, 0.7]))


def test_an_overlap_equal_to_the_threshold_counts():
    boxes = [[0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.25]]
    given = predictions([[2.0], [1.0]], boxes)
    (found,) = SoftNMSDetections(2, 0.5)(given, [(64, 64)])
    torch.testing.assert_close(
        found.scores, torch.tensor([2.0, 1.0]).sigmoid() / torch.tensor([1, 2])
    )


def test_classes_do_not_touch_each_other():
    """Each class alone gives what it gives beside the others."""
    given = crowd(classes=4)
    postprocess = SoftNMSDetections(240, 0.3, num_candidates=240, min_score=1e-9)
    for image, both in enumerate(postprocess(given, SIZES)):
        for label in range(4):
            logits = given.logits_BNK[..., label : label + 1]
            alone = postprocess(LayerPredictions(logits, given.boxes_BN4), SIZES)[image]
            of_class = both[both.pred_classes == label]
            assert len(alone) > 1
            torch.testing.assert_close(of_class.scores, alone.scores, rtol=1e-12, atol=0)
            assert torch.equal(of_class.pred_boxes.tensor, alone.pred_boxes.tensor)
        assert torch.equal(both.scores, both.scores.sort(descending=True)[0])


class TotalDecay(RescoredDetections):
    def kept_share(self, overlap_M):
        return (overlap_M <= 0.5).to(overlap_M.dtype)


def test_total_decay_is_suppression():
    given = crowd()
    soft = TotalDecay(180, 180, 1e-9)(given, SIZES)
    for found, wanted in zip(soft, NMSDetections(180, 0.5)(given, SIZES), strict=True):
        assert 10 < len(found) < 120
        torch.testing.assert_close(found.scores, wanted.scores)
        assert torch.equal(found.pred_classes, wanted.pred_classes)
        assert torch.equal(found.pred_boxes.tensor, wanted.pred_boxes.tensor)


def test_boxes_that_do_not_overlap_are_left_alone():
    boxes = [[0.1 + 0.2 * i, 0.5, 0.1, 0.1] for i in range(4)]
    given = predictions([[1.0, 2.0], [0.5, -1.0], [3.0, 0.0], [-2.0, -3.0]], boxes)
    (wanted,) = TopKDetections(8)(given, [(80, 90)])
    for postprocess in (SoftNMSDetections(8, 0.0), GaussianSoftNMSDetections(8)):
        (found,) = postprocess(given, [(80, 90)])
        torch.testing.assert_close(found.scores, wanted.scores)
        assert torch.equal(found.pred_boxes.tensor, wanted.pred_boxes.tensor)


def test_the_same_box_many_times_is_found_once():
    """A share of zero leaves nothing, however often it is taken away."""
    given = predictions([[2.0]] * 30, [[0.5, 0.5, 0.2, 0.3]] * 30)
    (found,) = SoftNMSDetections(30, num_candidates=30)(given, [(50, 60)])
    assert len(found) == 1
    (found,) = GaussianSoftNMSDetections(30, sigma=1e9)(given, [(50, 60)])
    assert len(found) == 30


@pytest.mark.parametrize("make", [SoftNMSDetections, GaussianSoftNMSDetections])
@pytest.mark.parametrize("queries, classes", [(0, 3), (2, 0)])
def test_nothing_to_choose_from(make, queries, classes):
    given = LayerPredictions(torch.zeros(2, queries, classes), torch.zeros(2, queries, 4))
    for postprocess in (make(), ClippedDetections(make())):
        for found, size in zip(postprocess(given, SIZES), SIZES, strict=True):
            assert len(found) == 0 and found.image_size == size
            assert found.pred_boxes.tensor.shape == (0, 4) and found.scores.shape == (0,)
            assert found.pred_classes.dtype == torch.int64
        none = LayerPredictions(torch.zeros(0, 5, 3), torch.zeros(0, 5, 4))
        assert postprocess(none, []) == []


@pytest.mark.parametrize("make", [SoftNMSDetections, GaussianSoftNMSDetections])
def test_boxes_beyond_the_image_and_empty_ones(make):
    boxes = [[0.1, 0.9, 0.4, 0.4], [0.5, 0.5, 0.0, 0.2], [0.5, 0.5, 0.0, 0.2]]
    given = predictions([[3.0], [2.0], [1.0]], boxes)
    (found,) = make()(given, [(10, 100)])
    torch.testing.assert_close(found.scores, torch.tensor([3.0, 2.0, 1.0]).sigmoid())
    assert found.pred_boxes.tensor[0].tolist() == pytest.approx([-10, 7, 30, 11])
    (clipped,) = ClippedDetections(make())(given, [(10, 100)])
    torch.testing.assert_close(clipped.pred_boxes.tensor, torch.tensor([[0.0, 7, 30, 10]]))


def test_a_score_that_is_not_a_number_shows():
    given = predictions([[math.nan], [2.0]], [[0.2, 0.2, 0.1, 0.1], [0.7, 0.7, 0.1, 0.1]])
    (found,) = SoftNMSDetections()(given, [(10, 10)])
    assert found.scores.isnan().tolist() == [True, False]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_predictions_of_any_type(dtype):
    (found,) = SoftNMSDetections()(predictions([[2.0]], [[0.5, 0.5, 0.5, 0.5]], dtype), [(8, 8)])
    assert found.scores.dtype == dtype
    assert found.pred_boxes.tensor.tolist() == [[2, 2, 6, 6]]


def test_only_the_best_candidates_are_looked_at():
    """As published: a lowered pair is not replaced by one beyond them."""
    near = [[0.3, 0.5, 0.2, 0.2]] * 2 + [[0.7, 0.5, 0.2, 0.2]]
    given = predictions([[3.0], [2.0], [1.0]], near)
    for candidates, count in ((None, 1), (2, 1), (3, 2)):
        (found,) = SoftNMSDetections(2, num_candidates=candidates)(given, [(9, 9)])
        assert len(found) == count


@pytest.mark.parametrize(
    "make, name, value",
    [
        (SoftNMSDetections, "num_detections", 0),
        (SoftNMSDetections, "num_candidates", 2.5),
        (SoftNMSDetections, "num_candidates", 299),
        (SoftNMSDetections, "min_score", 0),
        (SoftNMSDetections, "min_score", 1.5),
        (SoftNMSDetections, "iou_threshold", 1.1),
        (SoftNMSDetections, "iou_threshold", math.nan),
        (GaussianSoftNMSDetections, "sigma", 0.0),
        (GaussianSoftNMSDetections, "sigma", math.inf),
        (GaussianSoftNMSDetections, "num_detections", True),
    ],
)
def test_settings_that_mean_nothing_are_refused(make, name, value):
    with pytest.raises(ValueError, match=f"{name} of {make.__name__} .*{value!r}"):
        make(**{name: value})


def test_every_image_needs_a_size():
    given = predictions([[0.0]], [[0.5, 0.5, 1.0, 1.0]])
    with pytest.raises(ValueError, match="predictions of 1 images, but 2 output sizes"):
        SoftNMSDetections()(given, SIZES)


class Enlarged(Postprocess):
    """Another one, of larger boxes: those of small detectors may be too small to overlap."""

    def __init__(self, detections):
        self.detections = detections

    def __call__(self, predictions, output_sizes):
        center, size = predictions.boxes_BN4.chunk(2, -1)
        larger = dataclasses.replace(predictions, boxes_BN4=torch.cat([center, size + 0.4], -1))
        return self.detections(larger, output_sizes)


SOFT = Enlarged(SoftNMSDetections(60, 0.0, min_score=1e-12))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_model_has_it_also_prepared_for_inference(family):
    model = detector(family)
    inputs = batch((96, 128), (80, 60))
    model.postprocess = Enlarged(TopKDetections(60))
    plain = detect(model, inputs)
    model.postprocess = SOFT
    prepared = detect(prepare_for_inference(model), inputs)
    for found, ready, wanted in zip(detect(model, inputs), prepared, plain, strict=True):
        assert len(found) == len(wanted) == 60
        assert found.scores[0] == wanted.scores[0]
        assert found.scores.sum() < 0.8 * wanted.scores.sum()
        assert max(differences(ready, found)) < 0.05


def test_masks_are_those_of_the_kept_queries():
    model = detector("masks")
    inputs = batch((96, 128), (80, 60))
    model.postprocess = Enlarged(TopKDetections(60))
    plain = detect(model, inputs)
    model.postprocess = SOFT
    for found, wanted in zip(detect(model, inputs), plain, strict=True):
        moved = 0
        for index in range(len(found)):
            far = (wanted.pred_boxes.tensor - found.pred_boxes.tensor[index]).abs().amax(1)
            same = (far == 0) & (wanted.pred_classes == found.pred_classes[index])
            (place,) = same.nonzero().flatten().tolist()
            assert torch.equal(found.pred_masks[index], wanted.pred_masks[place])
            moved += place != index
        assert moved > 10


def test_the_override_of_the_documentation_works():
    words = SoftNMSDetections.__doc__.split("``")[5].split()
    assert len(words) == 2
    cfg = load_config(CONFIGS / "models/deformable_detr.py", words)
    found = instantiate(cfg.model.postprocess)
    assert isinstance(found, SoftNMSDetections)
    assert (found.num_detections, found.num_candidates, found.iou_threshold) == (300, 300, 0.8)


def test_as_many_candidates_as_detections_unless_told_otherwise():
    assert SoftNMSDetections(1000).num_candidates == 1000
    assert GaussianSoftNMSDetections(7, num_candidates=9).num_candidates == 9
