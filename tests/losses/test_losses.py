"""Loss terms against closed forms."""

import math

import pytest
import torch

from ms_detr.assigners import GIoUCost
from ms_detr.losses import FocalLoss, GIoULoss, L1Loss, LossTerms
from ms_detr.structures import Assignment, LayerPredictions, Targets


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
    loss = FocalLoss(1.0)(predictions, targets, assignment([(0, 0, 0)]))
    expected = focal(0, False) + focal(2, True) + focal(1, False) + focal(-1, False)
    assert loss.item() == pytest.approx(expected / 2, rel=1e-5)


def test_a_pair_that_does_not_own_its_label_teaches_no_class(predictions, targets):
    pairs = [(0, 0, 0), (0, 0, 1)]
    both = assignment(pairs, labelled=torch.tensor([True, False]))
    one = assignment(pairs[:1])
    assert FocalLoss(1.0)(predictions, targets, both) == FocalLoss(1.0)(predictions, targets, one)
    assert L1Loss(1.0)(predictions, targets, both) > L1Loss(1.0)(predictions, targets, one)


def test_box_losses(predictions, targets):
    pairs = assignment([(0, 0, 0), (0, 1, 1)])
    assert L1Loss(1.0)(predictions, targets, pairs).item() == pytest.approx(0.3 / 2, rel=1e-5)
    giou = 0.02 / 0.1 - (0.12 - 0.1) / 0.12
    loss = GIoULoss(1.0)(predictions, targets, pairs)
    assert loss.item() == pytest.approx((1 - giou + 0.0) / 2, abs=1e-6)


def test_no_pairs_leave_the_background_loss_and_a_gradient(predictions, targets):
    logits = predictions.logits_BNK.requires_grad_()
    boxes = predictions.boxes_BN4.requires_grad_()
    empty = assignment([])
    terms = [FocalLoss(1.0), L1Loss(1.0), GIoULoss(1.0)]
    losses = [term(predictions, targets, empty) for term in terms]
    assert losses[0] > 0 and losses[1] == 0 and losses[2] == 0
    sum(losses).backward()
    assert logits.grad.abs().sum() > 0
    assert boxes.grad.abs().sum() == 0


def test_a_box_of_no_size_has_a_finite_loss(targets):
    point = LayerPredictions(torch.zeros(1, 1, 2), torch.tensor([[[0.2, 0.2, 0.0, 0.0]]]))
    point.boxes_BN4.requires_grad_()
    loss = GIoULoss(1.0)(point, targets, assignment([(0, 0, 0)]))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(point.boxes_BN4.grad).all()


def test_terms_need_a_term():
    with pytest.raises(ValueError, match="at least one term"):
        LossTerms()


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_weights_are_finite_and_not_negative(weight):
    with pytest.raises(ValueError, match="weight of L1Loss must be at least 0"):
        L1Loss(weight)
    with pytest.raises(ValueError, match="weight of GIoUCost must be at least 0"):
        GIoUCost(weight)
