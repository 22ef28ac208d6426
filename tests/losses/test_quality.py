"""Quality focal loss against closed forms, a slow loop, and its own numerical gradient."""

import dataclasses
import math

import pytest
import torch
from torchvision.ops import box_convert, box_iou

from ms_detr.assigners import ReleasedTopKAssigner
from ms_detr.losses import FocalLoss, GIoULoss, L1Loss, QualityFocalLoss
from ms_detr.losses.quality import pair_overlaps
from ms_detr.structures import Assignment, LayerPredictions, Lesson, Targets


def assignment(pairs, normalizer=2.0, labelled=None):
    image, query, target = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 3).unbind(1)
    labelled = torch.ones(len(pairs), dtype=torch.bool) if labelled is None else labelled
    return Assignment(
        image, query, target, torch.ones_like(labelled), labelled, torch.tensor(normalizer)
    )


def random_lesson(layers=3, seed=0, dtype=torch.float64):
    """Two images with 3 and 0 objects; one query with two of them, slots without a pair."""
    generator = torch.Generator().manual_seed(seed)
    true = torch.rand(3, 4, generator=generator, dtype=dtype) * 0.2 + 0.3
    targets = Targets(torch.tensor([1, 0, 1]), true, (3, 0), torch.tensor(3.0, dtype=dtype))
    targets = targets.in_layers(layers)
    slots, valid, labelled = [], [], []
    for layer in range(layers):
        image, first = 2 * layer, 3 * layer
        slots += [(image, 4, first), (image, 1, first + 1), (image, 4, first + 2)]
        slots += [(image, 1, first + 1), (image + 1, 0, first)]  # these two hold nothing
        valid += [True, True, True, False, False]
        labelled += [layer == 1, True, layer != 1, False, False]
    logits = torch.randn(2 * layers, 6, 2, generator=generator, dtype=dtype).requires_grad_()
    near = true[torch.randint(0, 3, (2 * layers, 6), generator=generator)]
    boxes = near * (0.8 + 0.4 * torch.rand(*near.shape, generator=generator, dtype=dtype))
    counted = torch.ones(2 * layers, 6, dtype=torch.bool)
    counted[:, 5] = False
    predictions = LayerPredictions(
        logits, boxes.requires_grad_(), counted_BN=counted, layers=layers
    )
    found = assignment(slots, 3.0, torch.tensor(labelled))
    found = dataclasses.replace(found, valid_P=torch.tensor(valid))
    return Lesson(predictions, targets, found)


def slow(lesson, beta):
    """Equation 2 of the GFL paper, one score after the other, by layer."""
    predictions, targets, given = lesson.predictions, lesson.targets, lesson.assignment
    logits = predictions.logits_BNK.detach()
    boxes, true = (
        box_convert(x, "cxcywh", "xyxy") for x in (predictions.boxes_BN4, targets.boxes_G4)
    )
    wanted = {}
    for image, query, target, labels in zip(
        *(x.tolist() for x in (given.image_P, given.query_P, given.target_P, given.labelled_P))
    ):
        if labels:
            key = image, query, targets.labels_G[target].item()
            wanted[key] = box_iou(boxes[image, query][None], true[target][None]).item()
    sums = [0.0] * predictions.layers
    for image, queries in enumerate(logits.tolist()):
        for query, row in enumerate(queries):
            for label, logit in enumerate(row):
                if predictions.counted_BN is None or predictions.counted_BN[image, query]:
                    y, s = wanted.get((image, query, label), 0.0), 1 / (1 + math.exp(-logit))
                    entropy = -((1 - y) * math.log(1 - s) + y * math.log(s))
                    layer = image * predictions.layers // len(logits)
                    sums[layer] += abs(y - s) ** beta * entropy
    return torch.tensor(sums, dtype=torch.float64) / given.normalizer


@pytest.mark.parametrize("beta", [1.0, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("layers", [1, 3])
def test_it_is_the_published_equation(beta, layers):
    lesson = random_lesson(layers)
    loss = QualityFocalLoss(1.0, beta)(lesson)
    torch.testing.assert_close(loss, slow(lesson, beta), rtol=1e-12, atol=0)


def test_one_pair_by_hand():
    # boxes of 0.2 x 0.2 moved by half their width: IoU 1/3
    boxes = torch.tensor([[[0.5, 0.5, 0.2, 0.2], [0.3, 0.3, 0.2, 0.2]]])
    predictions = LayerPredictions(torch.tensor([[[0.0, -2.0], [1.0, -1.0]]]), boxes)
    true = torch.tensor([[0.6, 0.5, 0.2, 0.2]])
    targets = Targets(torch.tensor([0]), true, (1,), torch.tensor(1.0))
    loss = QualityFocalLoss(1.0)(Lesson(predictions, targets, assignment([(0, 0, 0)], 2.0)))
    expected = (1 / 2 - 1 / 3) ** 2 * math.log(2)
    for logit in (-2.0, 1.0, -1.0):
        score = 1 / (1 + math.exp(-logit))
        expected += score**2 * -math.log(1 - score)
    assert loss.item() == pytest.approx(expected / 2, rel=1e-5)


def test_the_gradient_is_that_of_the_equation_with_the_targets_held():
    lesson = random_lesson()

    def loss(logits):
        predictions = dataclasses.replace(lesson.predictions, logits_BNK=logits)
        return QualityFocalLoss(1.0)(Lesson(predictions, lesson.targets, lesson.assignment))

    assert torch.autograd.gradcheck(loss, lesson.predictions.logits_BNK)
    loss(lesson.predictions.logits_BNK).sum().backward()
    assert lesson.predictions.boxes_BN4.grad is None


def test_a_score_equal_to_its_quality_is_left_alone():
    for beta in (1.0, 1.5, 2.0):
        lesson = random_lesson(layers=1)
        logits = torch.full((2, 6, 2), -math.inf, dtype=torch.float64)
        quality = pair_overlaps(lesson)[1]
        logits[0, 1, 0] = quality.logit()
        # the other labelled pair is the last of query 4, of class 1
        logits[0, 4, 1] = pair_overlaps(lesson)[2].logit()
        logits.requires_grad_()
        predictions = dataclasses.replace(lesson.predictions, logits_BNK=logits)
        loss = QualityFocalLoss(1.0, beta)(Lesson(predictions, lesson.targets, lesson.assignment))
        loss.sum().backward()
        assert loss.abs().max() < 1e-15
        assert logits.grad.abs().max() < 1e-15  # also of the logits of -inf


@pytest.mark.parametrize("order", [1, -1])
def test_terms_beside_it_keep_their_gradients(order):
    """The boxes of a lesson are made once, for all terms."""
    lesson = random_lesson()
    terms = [QualityFocalLoss(1.0), L1Loss(1.0), GIoULoss(1.0)][::order]
    sum(term(lesson).sum() for term in terms).backward()
    assert lesson.predictions.boxes_BN4.grad.abs().sum() > 0


def test_a_query_with_two_objects_learns_the_overlap_with_the_one_that_labels_it():
    boxes = torch.tensor([[[0.5, 0.5, 0.2, 0.2]]])
    predictions = LayerPredictions(torch.tensor([[[0.3, -0.4]]]), boxes)
    true = torch.tensor([[0.6, 0.5, 0.2, 0.2], [0.55, 0.5, 0.2, 0.2]])
    for labels in ([0, 1], [0, 0]):
        targets = Targets(torch.tensor(labels), true, (2,), torch.tensor(2.0))
        pairs = [(0, 0, 0), (0, 0, 1)]
        losses = set()
        for owner in (0, 1):
            labelled = torch.arange(2) == owner
            both = Lesson(predictions, targets, assignment(pairs, 2.0, labelled))
            alone = Lesson(predictions, targets, assignment(pairs[owner : owner + 1]))
            assert QualityFocalLoss(1.0)(both) == QualityFocalLoss(1.0)(alone)
            losses.add(QualityFocalLoss(1.0)(both).item())
        assert len(losses) == 2


def test_without_objects_it_is_the_focal_loss_of_the_background():
    logits = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(1)).requires_grad_()
    predictions = LayerPredictions(logits, torch.rand(2, 5, 4))
    targets = Targets(torch.zeros(0).long(), torch.zeros(0, 4), (0, 0), torch.tensor(1.0))
    lesson = Lesson(predictions, targets, assignment([], 1.0))
    loss = QualityFocalLoss(1.0)(lesson)
    torch.testing.assert_close(loss, FocalLoss(1.0, alpha=0.0)(lesson))
    loss.sum().backward()
    assert (logits.grad > 0).all()


def test_slots_without_a_pair_may_name_anything():
    lesson = random_lesson(layers=1)
    clean = QualityFocalLoss(1.0)(lesson)
    boxes, logits = (x.detach().clone() for x in (
        lesson.predictions.boxes_BN4, lesson.predictions.logits_BNK))  # fmt: skip
    boxes[1, 0] = math.nan  # only a slot without a pair names it
    logits.requires_grad_(), boxes.requires_grad_()
    predictions = dataclasses.replace(lesson.predictions, boxes_BN4=boxes, logits_BNK=logits)
    loss = QualityFocalLoss(1.0)(Lesson(predictions, lesson.targets, lesson.assignment))
    assert loss == clean
    loss.backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("place", ["logits_BNK", "boxes_BN4"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_predictions_that_are_not_finite_show(place, value):
    predictions = LayerPredictions(torch.randn(2, 9, 3), torch.rand(2, 9, 4) * 0.3 + 0.3)
    getattr(predictions, place)[1, 8, 2] = value  # of an image without objects
    targets = Targets(torch.tensor([1]), torch.full((1, 4), 0.4), (1, 0), torch.tensor(1.0))
    found = ReleasedTopKAssigner()(predictions, targets)
    assert not torch.isfinite(QualityFocalLoss(1.0)(Lesson(predictions, targets, found)))


def test_one_to_many_pairs_of_the_released_assigner():
    """Layers, slots without a pair and queries with several objects, as training has them."""
    generator = torch.Generator().manual_seed(3)
    true = torch.rand(5, 4, generator=generator) * 0.03 + 0.3
    targets = Targets(torch.arange(5) % 3, true, (4, 0, 1), torch.tensor(5.0)).in_layers(2)
    near = true[torch.randint(0, 5, (6, 30), generator=generator)]
    boxes = near * (0.9 + 0.2 * torch.rand(*near.shape, generator=generator))
    logits = torch.randn(6, 30, 3, generator=generator)
    predictions = LayerPredictions(logits, boxes, layers=2)
    found = ReleasedTopKAssigner()(predictions, targets)
    assert found.valid_P.sum() > found.labelled_P.sum() > 5
    lesson = Lesson(predictions, targets, found)
    loss = QualityFocalLoss(1.0)(lesson)
    torch.testing.assert_close(loss.double(), slow(lesson, 2.0), rtol=1e-5, atol=0)


@pytest.mark.parametrize("beta", [0.5, -1, math.nan, math.inf, None, "2", True])
def test_a_beta_that_means_nothing_is_refused(beta):
    with pytest.raises(ValueError, match=f"beta of QualityFocalLoss must be .*1, got {beta!r}"):
        QualityFocalLoss(1.0, beta)


def test_every_layer_keeps_one_tensor_of_its_logits():
    """Memory: as the focal loss, one tensor in the size of the logits for the backward pass."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 300, 80, generator=generator).requires_grad_()
    predictions = LayerPredictions(logits, torch.rand(2, 300, 4))
    targets = Targets(torch.tensor([7]), torch.full((1, 4), 0.4), (1, 0), torch.tensor(1.0))
    lesson = Lesson(predictions, targets, assignment([(0, 3, 0)], 1.0))
    large = []

    def keep(tensor):
        large.append(tensor.numel()) if tensor.numel() >= logits.numel() else None
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        QualityFocalLoss(1.0)(lesson)
    assert large == [logits.numel()]
