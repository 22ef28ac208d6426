"""Both merges on pairs worked out by hand."""

import pytest
import torch
from assigners.problems import pairs_of, problem

from ms_detr.assigners import (
    AllPairsTopKAssigner,
    AppendMissing,
    FocalCost,
    GIoUCost,
    HungarianAssigner,
    MatchCosts,
    OverrideByOneToMany,
)
from ms_detr.losses import GIoULoss, L1Loss
from ms_detr.structures import Assignment, LayerPredictions, Lesson

QUERIES = 4
PREDICTIONS = LayerPredictions(torch.zeros(2, QUERIES, 3), torch.rand(2, QUERIES, 4))


def assignment(rows, normalizer):
    """Of (image, query, object, valid, labelled)."""
    image, query, target, valid, labelled = (
        torch.tensor(rows, dtype=torch.int64).reshape(-1, 5).unbind(1)
    )
    return Assignment(image, query, target, valid > 0, labelled > 0, torch.tensor(normalizer))


# Image 0 has objects 0 and 1, image 1 has object 2. Query 1 of image 0 has two objects, the second
# of which scores higher. The slot that is no pair names what the one-to-one set names.
MANY = assignment(
    [(0, 0, 0, 1, 1), (0, 1, 0, 1, 0), (0, 1, 1, 1, 1), (1, 3, 2, 0, 0), (1, 2, 2, 1, 1)], 3.0
)


def one(*rows):
    return assignment([(*row, 1, 1) for row in rows], 5.0)


@pytest.mark.parametrize("merge", [AppendMissing(), OverrideByOneToMany()])
def test_a_pair_for_a_free_query_is_added_with_its_label(merge):
    pairs, owners = pairs_of(merge(MANY, one((0, 2, 0), (1, 3, 2)), PREDICTIONS))
    assert {(0, 2, 0), (1, 3, 2)} <= set(pairs)
    assert {(0, 2, 0), (1, 3, 2)} <= owners


def test_append_keeps_all_and_adds_what_is_missing():
    # (0, 0, 0) is there already; query 1 has both objects; query 0 of image 1 is another query
    merged = AppendMissing()(MANY, one((0, 0, 0), (0, 1, 1), (1, 0, 2)), PREDICTIONS)
    pairs, owners = pairs_of(merged)
    assert pairs == [(0, 0, 0), (0, 1, 0), (0, 1, 1), (1, 2, 2), (1, 0, 2)]
    assert owners == {(0, 0, 0), (0, 1, 1), (1, 2, 2), (1, 0, 2)}
    assert merged.normalizer == 3


def test_append_gives_a_query_a_second_object_but_no_second_class():
    pairs, owners = pairs_of(AppendMissing()(MANY, one((0, 0, 1)), PREDICTIONS))
    assert (0, 0, 0) in pairs and (0, 0, 1) in pairs
    assert (0, 0, 0) in owners and (0, 0, 1) not in owners


def test_override_leaves_one_object_per_query():
    merged = OverrideByOneToMany()(MANY, one((0, 0, 1), (0, 3, 0), (1, 2, 2)), PREDICTIONS)
    pairs, owners = pairs_of(merged)
    # query 0 keeps its one-to-many object; of query 1's two the labelled one stays
    assert pairs == [(0, 0, 0), (0, 1, 1), (1, 2, 2), (0, 3, 0)]
    assert owners == set(pairs)
    assert merged.normalizer == 3


@pytest.mark.parametrize("merge", [AppendMissing(), OverrideByOneToMany()])
def test_merging_with_nothing(merge):
    nothing = assignment([], 1.0)
    pairs, owners = pairs_of(merge(MANY, nothing, PREDICTIONS))
    assert owners == {(0, 0, 0), (0, 1, 1), (1, 2, 2)}
    assert set(pairs) == owners | ({(0, 1, 0)} if isinstance(merge, AppendMissing) else set())
    pairs, owners = pairs_of(merge(nothing, one((0, 0, 1)), PREDICTIONS))
    assert pairs == [(0, 0, 1)] and owners == {(0, 0, 1)}


def test_sets_of_a_batch():
    predictions, targets = problem(40, [6, 0, 9], seed=3)
    many = AllPairsTopKAssigner(threshold=0.6)(predictions, targets)
    costs = MatchCosts(focal=FocalCost(2.0), giou=GIoUCost(2.0))
    single = HungarianAssigner(costs=costs)(predictions, targets)
    many_pairs, many_owners = pairs_of(many)
    single_pairs, _ = pairs_of(single)
    assert set(single_pairs) - set(many_pairs) and set(single_pairs) & set(many_pairs)

    pairs, owners = pairs_of(AppendMissing()(many, single, predictions))
    assert len(pairs) == len(set(pairs)) and set(pairs) == set(many_pairs) | set(single_pairs)
    assert many_owners <= owners
    assert len({p[:2] for p in owners}) == len(owners) == len({p[:2] for p in pairs})

    object_of = {p[:2]: p[2] for p in single_pairs} | {p[:2]: p[2] for p in many_owners}
    override = OverrideByOneToMany()(many, single, predictions)
    pairs, owners = pairs_of(override)
    assert owners == set(pairs) == {(*query, g) for query, g in object_of.items()}
    for loss in (L1Loss(1.0), GIoULoss(1.0)):
        kept = override.valid_P
        only = Assignment(
            *(getattr(override, f"{name}_P")[kept] for name in ("image", "query", "target")),
            *(override.valid_P[kept], override.labelled_P[kept], override.normalizer),
        )
        found = (loss(Lesson(predictions, targets, a)) for a in (override, only))
        assert next(found).item() == pytest.approx(next(found).item(), rel=1e-6)


def test_the_source_is_named():
    assert AppendMissing().source == OverrideByOneToMany().source == "one_to_one"
    assert AppendMissing(source="other").source == "other"
