"""One-to-one assignment: optimal, complete, image by image."""

import itertools
import math

import pytest
import torch

from ms_detr.assigners import FocalCost, GIoUCost, HungarianAssigner, L1Cost, MatchCosts
from ms_detr.errors import NonFiniteError
from ms_detr.structures import LayerPredictions, Targets

COSTS = MatchCosts(focal=FocalCost(2.0), l1=L1Cost(5.0), giou=GIoUCost(2.0))


def problem(queries, counts, classes=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = len(counts)
    predictions = LayerPredictions(
        torch.randn(images, queries, classes, generator=generator),
        torch.rand(images, queries, 4, generator=generator) * 0.4 + 0.1,
    )
    objects = sum(counts)
    targets = Targets(
        torch.randint(0, classes, (objects,), generator=generator),
        torch.rand(objects, 4, generator=generator) * 0.4 + 0.1,
        tuple(counts),
        torch.tensor(float(max(objects, 1))),
    )
    return predictions, targets


def test_costs_by_hand():
    boxes = torch.tensor([[[0.5, 0.5, 0.2, 0.2]]])
    predictions = LayerPredictions(torch.tensor([[[0.0, 2.0]]]), boxes)
    true = torch.tensor([[0.6, 0.5, 0.2, 0.4]])
    targets = Targets(torch.tensor([0]), true, (1,), torch.tensor(1.0))
    p = 0.5
    focal = 0.25 * (1 - p) ** 2 * -math.log(p) - 0.75 * p**2 * -math.log(1 - p)
    # boxes 0.4..0.6 x 0.4..0.6 and 0.5..0.7 x 0.3..0.7: intersection 0.02, union 0.1, hull 0.12
    giou = 0.02 / 0.1 - (0.12 - 0.1) / 0.12
    for cost, expected in ((FocalCost(1), focal), (L1Cost(1), 0.3), (GIoUCost(1), -giou)):
        assert cost(predictions, targets).item() == pytest.approx(expected, abs=1e-6)
    total = MatchCosts(a=FocalCost(2.0), b=L1Cost(5.0))(predictions, targets)
    assert total.item() == pytest.approx(2 * focal + 5 * 0.3, abs=1e-5)


@pytest.mark.parametrize("objects", [1, 2, 3])
def test_no_other_set_of_pairs_is_cheaper(objects):
    for seed in range(5):
        predictions, targets = problem(5, [objects], seed=seed)
        found = HungarianAssigner(costs=COSTS)(predictions, targets)
        cost = COSTS(predictions, targets)
        cheapest = min(
            sum(cost[g, q] for g, q in enumerate(choice))
            for choice in itertools.permutations(range(5), objects)
        )
        assert cost[found.target_P, found.query_P].sum() == pytest.approx(cheapest.item(), abs=1e-5)


def test_every_object_once_and_every_query_at_most_once():
    predictions, targets = problem(6, [4, 0, 6])
    found = HungarianAssigner(costs=COSTS)(predictions, targets)
    assert found.target_P.tolist() == list(range(10))
    assert found.image_P.tolist() == [0] * 4 + [2] * 6
    pairs = set(zip(found.image_P.tolist(), found.query_P.tolist()))
    assert len(pairs) == 10
    assert found.labelled_P.all()
    assert found.normalizer == 10


def test_more_objects_than_queries_uses_every_query():
    predictions, targets = problem(3, [7])
    found = HungarianAssigner(costs=COSTS)(predictions, targets)
    assert sorted(found.query_P.tolist()) == [0, 1, 2]
    assert len(set(found.target_P.tolist())) == 3


def test_a_batch_is_matched_as_its_images():
    predictions, targets = problem(6, [2, 3])
    both = HungarianAssigner(costs=COSTS)(predictions, targets)
    start = 0
    for image, count in enumerate((2, 3)):
        alone = HungarianAssigner(costs=COSTS)(
            LayerPredictions(
                predictions.logits_BNK[image : image + 1], predictions.boxes_BN4[image : image + 1]
            ),
            Targets(
                targets.labels_G[start : start + count],
                targets.boxes_G4[start : start + count],
                (count,),
                targets.num_boxes,
            ),
        )
        mine = both.image_P == image
        assert torch.equal(both.query_P[mine], alone.query_P)
        assert torch.equal(both.target_P[mine] - start, alone.target_P)
        start += count


def test_nothing_to_match():
    predictions, targets = problem(3, [0, 0])
    found = HungarianAssigner(costs=COSTS)(predictions, targets)
    assert len(found.image_P) == len(found.query_P) == len(found.target_P) == 0


def test_predictions_without_a_price_are_not_looked_at():
    """What the losses have to tell instead; see also the documented text of the assigner."""
    predictions, targets = problem(3, [0])
    predictions.boxes_BN4.fill_(float("nan"))
    assert len(HungarianAssigner(costs=COSTS)(predictions, targets).query_P) == 0
    predictions, targets = problem(3, [2])
    predictions.logits_BNK.fill_(float("nan"))
    boxes_only = HungarianAssigner(costs=MatchCosts(l1=L1Cost(1.0)))
    assert len(boxes_only(predictions, targets).query_P) == 2


@pytest.mark.parametrize("value", [None, "MatchCosts", {"l1": L1Cost(1.0)}])
def test_costs_are_match_costs(value):
    with pytest.raises(
        ValueError, match="costs of a HungarianAssigner must be of class MatchCosts, got"
    ):
        HungarianAssigner(costs=value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_predictions_are_an_error(value):
    predictions, targets = problem(3, [2])
    predictions.boxes_BN4[0, 1, 2] = value
    with pytest.raises(NonFiniteError, match="NaN or infinite"):
        HungarianAssigner(costs=COSTS)(predictions, targets)
