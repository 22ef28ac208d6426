"""Loss terms against closed forms."""

import dataclasses
import math

import pytest
import torch
from torchvision.ops import box_convert, generalized_box_iou_loss, sigmoid_focal_loss

from ms_detr.assigners import FocalCost, GIoUCost, L1Cost, MatchCosts, ReleasedTopKAssigner
from ms_detr.losses import FocalLoss, GIoULoss, L1Loss, LossTerms
from ms_detr.overlap import corners_of, generalized_iou
from ms_detr.structures import Assignment, LayerPredictions, Lesson, Targets


def assignment(pairs, normalizer=2.0, labelled=None):
    image, query, target = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 3).unbind(1)
    labelled = torch.ones(len(pairs), dtype=torch.bool) if labelled is None else labelled
    valid = torch.ones_like(labelled)
    return Assignment(image, query, target, valid, labelled, torch.tensor(normalizer))


@pytest.fixture
def predictions():
    boxes = torch.tensor([[[0.5, 0.5, 0.2, 0.2], [0.3, 0.3, 0.2, 0.2]]])
    return LayerPredictions(torch.tensor([[[0.0, 2.0], [1.0, -1.0]]]), boxes)


@pytest.fixture
def targets():
    boxes = torch.tensor([[0.6, 0.5, 0.2, 0.4], [0.3, 0.3, 0.2, 0.2]])
    return Targets(torch.tensor([1, 0]), boxes, (2,), torch.tensor(2.0))


def focal(logit, positive):
    p = 1 / (1 + math.exp(-logit))
    if positive:
        return 0.25 * (1 - p) ** 2 * -math.log(p)
    return 0.75 * p**2 * -math.log(1 - p)


def test_focal_loss_of_assigned_and_background_queries(predictions, targets):
    loss = FocalLoss(1.0)(Lesson(predictions, targets, assignment([(0, 0, 0)])))
    expected = focal(0, False) + focal(2, True) + focal(1, False) + focal(-1, False)
    assert loss.item() == pytest.approx(expected / 2, rel=1e-5)


def test_a_pair_that_does_not_own_its_label_teaches_no_class(predictions, targets):
    pairs = [(0, 0, 0), (0, 0, 1)]
    both = assignment(pairs, labelled=torch.tensor([True, False]))
    one = assignment(pairs[:1])
    assert FocalLoss(1.0)(Lesson(predictions, targets, both)) == FocalLoss(1.0)(
        Lesson(predictions, targets, one)
    )
    assert L1Loss(1.0)(Lesson(predictions, targets, both)) > L1Loss(1.0)(
        Lesson(predictions, targets, one)
    )


def test_box_losses(predictions, targets):
    pairs = assignment([(0, 0, 0), (0, 1, 1)])
    assert L1Loss(1.0)(Lesson(predictions, targets, pairs)).item() == pytest.approx(
        0.3 / 2, rel=1e-5
    )
    giou = 0.02 / 0.1 - (0.12 - 0.1) / 0.12
    loss = GIoULoss(1.0)(Lesson(predictions, targets, pairs))
    assert loss.item() == pytest.approx((1 - giou + 0.0) / 2, abs=1e-6)


def test_no_pairs_leave_the_background_loss_and_a_gradient(predictions, targets):
    logits = predictions.logits_BNK.requires_grad_()
    boxes = predictions.boxes_BN4.requires_grad_()
    empty = assignment([])
    terms = [FocalLoss(1.0), L1Loss(1.0), GIoULoss(1.0)]
    losses = [term(Lesson(predictions, targets, empty)) for term in terms]
    assert losses[0] > 0 and losses[1] == 0 and losses[2] == 0
    sum(losses).backward()
    assert logits.grad.abs().sum() > 0
    assert boxes.grad.abs().sum() == 0


def test_a_box_of_no_size_has_a_finite_loss(targets):
    point = LayerPredictions(torch.zeros(1, 1, 2), torch.tensor([[[0.2, 0.2, 0.0, 0.0]]]))
    point.boxes_BN4.requires_grad_()
    loss = GIoULoss(1.0)(Lesson(point, targets, assignment([(0, 0, 0)])))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(point.boxes_BN4.grad).all()


def test_terms_need_a_term():
    with pytest.raises(ValueError, match="at least one term"):
        LossTerms()


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf, None, "2", True])
def test_weights_are_finite_and_not_negative(weight):
    for kind in (L1Loss, GIoULoss, FocalLoss, L1Cost, GIoUCost, FocalCost):
        message = f"weight of {kind.__name__} must be .* number of at least 0, got {weight!r}"
        with pytest.raises(ValueError, match=message):
            kind(weight)
        assert kind(0).weight == 0


@pytest.mark.parametrize("kind", [FocalLoss, FocalCost])
def test_focal_settings_that_mean_nothing_are_refused(kind):
    wrong = [("alpha", value) for value in (7, -1, -0.1, 1.1, math.nan, None, "0.25", True)]
    wrong += [("gamma", value) for value in (-2, math.nan, math.inf, None, "2", False)]
    for name, value in wrong:
        message = f"{name} of {kind.__name__} must be a .*number .*, got {value!r}"
        with pytest.raises(ValueError, match=message):
            kind(1.0, **{name: value})
    for alpha, gamma in ((0, 0), (1, 5.5)):
        assert (kind(1.0, alpha, gamma).alpha, kind(1.0, alpha, gamma).gamma) == (alpha, gamma)


def test_alpha_of_one_half_at_twice_the_weight_treats_positives_and_negatives_alike():
    logits = torch.linspace(-3, 3, 6).view(1, 3, 2)
    predictions = LayerPredictions(logits, torch.rand(1, 3, 4))
    targets = Targets(torch.tensor([1]), torch.rand(1, 4), (1,), torch.tensor(1.0))
    truth = torch.zeros_like(logits)
    truth[0, 2, 1] = 1
    off = sigmoid_focal_loss(logits, truth, alpha=-1, reduction="sum")
    lesson = Lesson(predictions, targets, assignment([(0, 2, 0)], 1.0))
    half = FocalLoss(1.0, alpha=0.5)(lesson)
    torch.testing.assert_close(2 * half, off[None])


@pytest.mark.parametrize("value", [None, 5.0, "L1Loss"])
def test_parts_of_another_class_are_named(value):
    with pytest.raises(
        ValueError, match=r"term l1 must be of class LossTerm, got .*terms.l1.weight=1"
    ):
        LossTerms(l1=value)
    with pytest.raises(
        ValueError, match=r"cost l1 must be of class MatchCost, got .*costs.l1.weight=1"
    ):
        MatchCosts(l1=value)


def test_slots_without_a_pair_have_no_loss_and_no_gradient():
    torch.manual_seed(0)
    boxes = torch.rand(1, 6, 4) * 0.3 + 0.3
    boxes[0, 3] = float("nan")  # only slots without a pair name it
    predictions = LayerPredictions(torch.randn(1, 6, 2), boxes)
    true = torch.rand(2, 4) * 0.3 + 0.3
    targets = Targets(torch.tensor([1, 0]), true, (2,), torch.tensor(2.0))
    pairs = [(0, 0, 0), (0, 2, 1), (0, 4, 1)]
    # the last two name a query and its class once more, and one that is background
    slots = [*pairs, (0, 3, 0), (0, 2, 1), (0, 5, 0)]
    valid = torch.tensor([True] * 3 + [False] * 3)
    padded = dataclasses.replace(assignment(slots), valid_P=valid, labelled_P=valid)
    for term in (FocalLoss(1.0), L1Loss(1.0), GIoULoss(1.0)):
        found = []
        for chosen in (assignment(pairs), padded):
            inputs = LayerPredictions(
                predictions.logits_BNK.clone().requires_grad_(),
                predictions.boxes_BN4.clone().requires_grad_(),
            )
            loss = term(Lesson(inputs, targets, chosen))
            loss.backward()
            grads = inputs.boxes_BN4.grad, inputs.logits_BNK.grad
            found.append([loss.detach(), *(g for g in grads if g is not None)])
        # What is added up is longer by zeros, which may change its order.
        torch.testing.assert_close(*found, rtol=1e-6, atol=0)
        assert math.isfinite(found[0][0])


def test_giou_loss_is_that_of_torchvision():
    generator = torch.Generator().manual_seed(0)
    first = torch.rand(500, 4, generator=generator, dtype=torch.float64) * 0.5 + 0.05
    second = torch.rand(500, 4, generator=generator, dtype=torch.float64) * 0.5 + 0.05
    second[:20] = first[:20]
    second[20:40, 0] = first[20:40, 0] + (first[20:40, 2] + second[20:40, 2]) / 2  # they touch
    first[40:60, 2] = 0
    grads = []
    for ours in (True, False):
        boxes = first.clone().requires_grad_()
        if ours:
            loss = 1 - generalized_iou(corners_of(boxes), corners_of(second))
        else:
            corners = (box_convert(b, "cxcywh", "xyxy") for b in (boxes, second))
            loss = generalized_box_iou_loss(*corners, eps=0.0)
        (loss * torch.arange(500)).sum().backward()
        grads.append((loss.detach(), boxes.grad))
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-12, atol=1e-12)
    assert (grads[0][0][:20] == 0).all()


@pytest.mark.parametrize("place", ["logits_BNK", "boxes_BN4"])
def test_every_loss_of_non_finite_predictions_is_non_finite(place):
    """The assigner cannot raise without waiting for the device: the loss must tell."""
    for value in (float("nan"), float("inf")):
        predictions = LayerPredictions(torch.randn(2, 9, 3), torch.rand(2, 9, 4) * 0.3 + 0.3)
        getattr(predictions, place)[1, 8, 2] = value  # of an image without objects
        targets = Targets(torch.tensor([1]), torch.full((1, 4), 0.4), (1, 0), torch.tensor(1.0))
        found = ReleasedTopKAssigner()(predictions, targets)
        for term in (FocalLoss(1.0), L1Loss(1.0), GIoULoss(1.0)):
            assert not torch.isfinite(term(Lesson(predictions, targets, found)))


def test_a_weight_of_the_class_of_two_pairs_is_one():
    """Slots may name the same query and class twice; only one of them owns the label."""
    predictions = LayerPredictions(torch.randn(1, 3, 2), torch.rand(1, 3, 4))
    targets = Targets(torch.tensor([1, 1]), torch.rand(2, 4), (2,), torch.tensor(2.0))
    one = FocalLoss(1.0)(Lesson(predictions, targets, assignment([(0, 1, 0)])))
    for owner in ([True, False], [False, True]):
        two = assignment([(0, 1, 0), (0, 1, 1)], labelled=torch.tensor(owner))
        assert FocalLoss(1.0)(Lesson(predictions, targets, two)) == one
