"""Assigners that apply another one block by block, or to repeated objects."""

from __future__ import annotations

import copy

import pytest
import torch
from assigners.problems import problem

from ms_detr.assigners import (
    BlockwiseAssigner,
    FocalCost,
    GIoUCost,
    HungarianAssigner,
    L1Cost,
    MatchCosts,
    ReleasedTopKAssigner,
    RepeatingAssigner,
)
from ms_detr.structures import LayerPredictions, Targets

COUNTS = (3, 0, 5)


def hungarian() -> HungarianAssigner:
    return HungarianAssigner(
        costs=MatchCosts(**{"class": FocalCost(2.0), "l1": L1Cost(5.0), "giou": GIoUCost(2.0)})
    )


def pairs(assignment) -> set[tuple[int, int, int]]:
    rows = torch.stack([assignment.image_P, assignment.query_P, assignment.target_P], 1)
    return {tuple(row) for row in rows[assignment.valid_P].tolist()}


@pytest.mark.parametrize("assigner", [hungarian(), ReleasedTopKAssigner(k=2, threshold=0.1)])
def test_blocks_are_assigned_one_by_one(assigner):
    predictions, targets = problem(queries=24, counts=COUNTS, seed=0)
    blocks, size = 4, 6
    ours = BlockwiseAssigner(assigner=assigner)(
        LayerPredictions(predictions.logits_BNK, predictions.boxes_BN4, blocks=blocks), targets
    )
    expected = set()
    for block in range(blocks):
        own = slice(block * size, (block + 1) * size)
        alone = assigner(
            LayerPredictions(predictions.logits_BNK[:, own], predictions.boxes_BN4[:, own]),
            targets,
        )
        expected |= {(i, q + block * size, t) for i, q, t in pairs(alone)}
    assert pairs(ours) == expected and len(expected) >= blocks
    assert ours.normalizer == blocks * targets.num_boxes


def test_one_block_is_the_assigner_itself():
    predictions, targets = problem(queries=10, counts=COUNTS, seed=1)
    assert pairs(BlockwiseAssigner(assigner=hungarian())(predictions, targets)) == pairs(
        hungarian()(predictions, targets)
    )


def test_repeated_objects_get_as_many_queries():
    predictions, targets = problem(queries=24, counts=COUNTS, seed=2)
    found = RepeatingAssigner(assigner=hungarian(), repeats=3)(predictions, targets)
    assert torch.bincount(found.target_P).tolist() == [3] * sum(COUNTS)
    assert len({(i, q) for i, q, _ in pairs(found)}) == 3 * sum(COUNTS)
    assert torch.equal(targets.image_G[found.target_P], found.image_P)
    assert found.normalizer == 3 * targets.num_boxes


def test_repeated_objects_get_their_cheapest_queries():
    """Two queries near each of two objects: no other assignment of four pairs is cheaper."""
    boxes = torch.tensor([[0.2, 0.2], [0.8, 0.8], [0.25, 0.2], [0.75, 0.8], [0.5, 0.1]])
    boxes = torch.cat([boxes, torch.full_like(boxes, 0.2)], 1)[None]
    predictions = LayerPredictions(torch.zeros(1, 5, 2), boxes)
    truth = torch.tensor([[0.2, 0.2, 0.2, 0.2], [0.8, 0.8, 0.2, 0.2]])
    targets = Targets(torch.tensor([0, 1]), truth, (2,), torch.tensor(2.0))
    found = RepeatingAssigner(assigner=hungarian(), repeats=2)(predictions, targets)
    assert pairs(found) == {(0, 0, 0), (0, 2, 0), (0, 1, 1), (0, 3, 1)}


def test_fewer_queries_than_repeated_objects():
    predictions, targets = problem(queries=4, counts=COUNTS, seed=3)
    found = RepeatingAssigner(assigner=hungarian(), repeats=6)(predictions, targets)
    assert torch.bincount(found.image_P, minlength=3).tolist() == [4, 0, 4]


def test_blocks_of_repeated_objects():
    predictions, targets = problem(queries=20, counts=(2, 1), seed=4)
    both = BlockwiseAssigner(assigner=RepeatingAssigner(assigner=hungarian(), repeats=2))
    found = both(LayerPredictions(predictions.logits_BNK, predictions.boxes_BN4, blocks=2), targets)
    block_P = found.query_P // 10
    for block in (0, 1):
        assert torch.bincount(found.target_P[block_P == block]).tolist() == [2, 2, 2]
    assert found.normalizer == 4 * targets.num_boxes


@pytest.mark.parametrize(
    "assigner",
    [BlockwiseAssigner(assigner=hungarian()), RepeatingAssigner(assigner=hungarian())],
)
def test_no_objects_at_all(assigner):
    predictions, targets = problem(queries=6, counts=(0, 0), seed=5)
    before = copy.deepcopy(targets)
    in_blocks = LayerPredictions(predictions.logits_BNK, predictions.boxes_BN4, blocks=3)
    found = assigner(in_blocks, targets)
    assert len(found.image_P) == 0 and found.normalizer >= 1
    assert torch.equal(before.labels_G, targets.labels_G)


@pytest.mark.parametrize("repeats", [0, -1, 1.5, True, None])
def test_repeats_are_checked(repeats):
    with pytest.raises(ValueError, match="repeats of RepeatingAssigner must be a whole num"):
        RepeatingAssigner(assigner=hungarian(), repeats=repeats)


@pytest.mark.parametrize("kind", [BlockwiseAssigner, RepeatingAssigner])
def test_the_inner_assigner_is_checked(kind):
    with pytest.raises(ValueError, match=f"assigner of a {kind.__name__} must be of class Assig"):
        kind(assigner=None)
