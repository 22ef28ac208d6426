"""The three one-to-many assigners: worked out by hand, and against Python lists."""

import importlib.util

import pytest
import torch
from assigners.problems import RULES, expected, pairs_of, problem, reference_scores

from ms_detr.assigners import (
    AllPairsTopKAssigner,
    BestObjectTopKAssigner,
    ReleasedTopKAssigner,
    TopKAssigner,
)
from ms_detr.assigners.selection import favourites, lowest_k_first, top_k_first
from ms_detr.registry import ASSIGNERS
from ms_detr.structures import LayerPredictions, Targets

CLASSES = [AllPairsTopKAssigner, BestObjectTopKAssigner, ReleasedTopKAssigner]


def scored(kind, matrix, **options):
    """Pairs (object, query) of one image with this score matrix, and those that own the label."""
    matrix = torch.tensor(matrix)
    objects, queries = matrix.shape
    given = type("Scored", (kind,), {"scores": lambda self, predictions, targets: matrix.clone()})
    predictions = LayerPredictions(torch.zeros(1, queries, 1), torch.rand(1, queries, 4))
    targets = Targets(
        torch.zeros(objects, dtype=torch.int64),
        torch.rand(objects, 4),
        (objects,),
        torch.tensor(float(objects)),
    )
    pairs, owners = pairs_of(given(**options)(predictions, targets))
    return [(g, q) for _, q, g in pairs], {(g, q) for _, q, g in owners}


# Where the definitions part. Query 0 is everybody's best; object 1 has nothing else above 0.4.
SHARED = [[0.9, 0.7, 0.2, 0.5], [0.8, 0.1, 0.3, 0.2]]


def test_the_supplement_gives_a_query_to_its_best_object_only():
    pairs, owners = scored(BestObjectTopKAssigner, SHARED)
    assert pairs == [(0, 0), (0, 1), (0, 3)]  # query 2 prefers object 1, below the threshold
    assert owners == set(pairs)


def test_algorithm_1_lets_objects_share_a_query():
    pairs, owners = scored(AllPairsTopKAssigner, SHARED)
    assert pairs == [(0, 0), (0, 1), (0, 3), (1, 0)]
    assert owners == {(0, 0), (0, 1), (0, 3)}  # 0.9 is above 0.8


def test_the_released_code_picks_as_many_as_prefer_the_object():
    # Three queries prefer object 0 and reach 0.4; nobody prefers object 1 above it, whose best
    # query is positive already, for object 0.
    assert scored(ReleasedTopKAssigner, SHARED, positive_fraction=1.0)[0] == [
        (0, 0),
        (0, 1),
        (0, 3),
    ]
    # With 0.45 instead of 0.3, query 2 is a positive of object 1, which then takes its best of
    # all: query 0, and query 2 goes to nobody.
    shared = [SHARED[0], [0.8, 0.1, 0.45, 0.2]]
    pairs, owners = scored(ReleasedTopKAssigner, shared, positive_fraction=1.0)
    assert pairs == [(0, 0), (0, 1), (0, 3), (1, 0)]
    assert owners == {(0, 0), (0, 1), (0, 3)}
    assert scored(BestObjectTopKAssigner, shared)[0] == [(0, 0), (0, 1), (0, 3), (1, 2)]
    assert scored(AllPairsTopKAssigner, shared)[0] == [(0, 0), (0, 1), (0, 3), (1, 0), (1, 2)]


def test_a_score_at_the_threshold():
    row = [[0.5, 0.25, 0.125]]
    for kind, taken in zip(CLASSES, ([0], [0, 1], [0, 1])):
        options = {"positive_fraction": 1.0} if kind is ReleasedTopKAssigner else {}
        assert scored(kind, row, threshold=0.25, **options)[0] == [(0, q) for q in taken]


def test_only_the_released_code_forces_a_query():
    row = [[0.1, 0.2, 0.15]]
    assert scored(AllPairsTopKAssigner, row)[0] == scored(BestObjectTopKAssigner, row)[0] == []
    assert scored(ReleasedTopKAssigner, row)[0] == [(0, 1)]


def test_a_forced_query_keeps_its_own_favourite():
    # Query 0 is the best of object 1, but likes object 0: object 1 stays without a query, and
    # object 0 has two positives, so it gets its two best of all.
    matrix = [[0.9, 0.6], [0.3, 0.2]]
    assert scored(ReleasedTopKAssigner, matrix, positive_fraction=1.0)[0] == [(0, 0), (0, 1)]


def test_a_query_given_twice_learns_the_class_of_the_better_pair():
    # Favourites: q0 -> 0, q1 -> 0, q2 -> 1, q3 -> 1. Object 0 takes q0 and q3, object 1 q3 and q2.
    matrix = [[0.9, 0.5, 0.1, 0.85], [0.2, 0.1, 0.8, 0.95]]
    pairs, owners = scored(ReleasedTopKAssigner, matrix, positive_fraction=1.0)
    assert pairs == [(0, 0), (0, 3), (1, 3), (1, 2)]
    assert owners == {(0, 0), (1, 2), (1, 3)}


def test_equal_objects_share_a_query_and_the_first_owns_the_class():
    matrix = [[0.9, 0.1], [0.9, 0.1]]
    assert scored(AllPairsTopKAssigner, matrix) == ([(0, 0), (1, 0)], {(0, 0)})
    assert scored(BestObjectTopKAssigner, matrix) == ([(0, 0)], {(0, 0)})


@pytest.mark.parametrize("kind", CLASSES)
def test_k_limits_an_object_and_equal_queries_go_by_number(kind):
    options = {"positive_fraction": 1.0} if kind is ReleasedTopKAssigner else {}
    row = [[0.5, 0.75, 0.5, 0.75, 0.5, 0.5]]
    assert scored(kind, row, k=4, **options)[0] == [(0, 1), (0, 3), (0, 0), (0, 2)]
    assert scored(kind, row, k=1, **options)[0] == [(0, 1)]


def test_positives_are_capped_by_score():
    # Four positives, but at most int(0.5 * 4) = 2: the best two, one for each object.
    matrix = [[0.9, 0.5, 0.1, 0.1], [0.1, 0.1, 0.8, 0.6]]
    assert scored(ReleasedTopKAssigner, matrix, positive_fraction=0.5)[0] == [(0, 0), (1, 2)]
    assert len(scored(ReleasedTopKAssigner, matrix, positive_fraction=0.75)[0]) == 3
    assert scored(ReleasedTopKAssigner, [[0.9, 0.5, 0.1]])[0] == [(0, 0)]  # at least one


def test_score_is_the_weighted_sum():
    predictions = LayerPredictions(
        torch.tensor([[[0.0, 4.0]]]), torch.tensor([[[0.5, 0.5, 0.2, 0.2]]])
    )
    shifted = torch.tensor([[0.6, 0.5, 0.2, 0.2]])  # intersection 0.02 of union 0.06
    targets = Targets(torch.tensor([0]), shifted, (1,), torch.tensor(1.0))
    for alpha in (0.0, 0.3, 1.0):
        score = AllPairsTopKAssigner(alpha=alpha).scores(predictions, targets)
        assert score.item() == pytest.approx((1 - alpha) / 3 + alpha * 0.5)


CASES = [
    {"queries": 40, "counts": [5, 0, 9], "seed": 1},
    {"queries": 40, "counts": [0, 1, 30], "seed": 2},
    {"queries": 4, "counts": [3, 6], "seed": 3},
    {"queries": 1, "counts": [2, 1, 0], "seed": 4},
    {"queries": 30, "counts": [0, 0], "seed": 5},
    {"queries": 300, "counts": [60], "seed": 6},
    *({"queries": 72, "counts": [8, 3], "seed": s, "copies": 3} for s in range(7, 13)),
    {"queries": 900, "counts": [2, 100], "seed": 13, "classes": 80, "spread": 0.5},
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("name", RULES)
def test_pairs_are_those_of_the_definition(name, case, dtype):
    predictions, targets = problem(**case, dtype=dtype)
    for options in ({}, {"k": 2, "threshold": 0.2, "alpha": 0.6}, {"k": 11, "threshold": 0.0}):
        assigner = ASSIGNERS.get(name)(**options)
        found = assigner(predictions, targets)
        score_GN = assigner.scores(predictions, targets)
        options.pop("alpha", None)
        assert pairs_of(found) == expected(name, score_GN, targets, **options)
        assert len(found.query_P) == sum(targets.counts) * min(options.get("k", 6), case["queries"])
        assert found.normalizer == targets.num_boxes


@pytest.mark.parametrize("name", RULES)
def test_the_loops_of_the_benchmark_find_the_same(name, repository):
    path = repository / "tools" / "assigner_loops.py"
    spec = importlib.util.spec_from_file_location("assigner_loops", path)
    loops = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loops)
    for seed in range(5):
        predictions, targets = problem(100, [8, 0, 21], seed=seed)
        truth = (targets.labels_G, targets.boxes_G4, targets.counts)
        found = loops.assign(name, predictions.logits_BNK, predictions.boxes_BN4, *truth)
        first, pairs = 0, []
        for image, (query, index, _) in enumerate(found):
            pairs += [(image, q, g + first) for q, g in zip(query.tolist(), index.tolist())]
            first += targets.counts[image]
        assert pairs == pairs_of(ASSIGNERS.get(name)()(predictions, targets))[0]


def test_scores_of_a_batch():
    predictions, targets = problem(50, [7, 0, 12], classes=9, seed=61, dtype=torch.float64)
    for alpha in (0.0, 0.3, 1.0):
        found = AllPairsTopKAssigner(alpha=alpha).scores(predictions, targets)
        reference = reference_scores(predictions, targets, alpha)
        torch.testing.assert_close(found, reference, rtol=1e-14, atol=1e-15)


def test_cases_tie():
    """Else the cases above would not show what happens to equal scores."""
    predictions, targets = problem(**CASES[6])
    score_GN = AllPairsTopKAssigner().scores(predictions, targets)
    assert all(len(set(row)) <= len(row) / 2 for row in score_GN.tolist())
    assert all(len(set(column)) < len(column) for column in score_GN.T.tolist())


@pytest.mark.parametrize("name", RULES)
def test_an_image_does_not_see_the_others(name):
    assigner = ASSIGNERS.get(name)()
    predictions, targets = problem(40, [6, 0, 9], seed=21)
    together = pairs_of(assigner(predictions, targets))[0]
    first = 0
    for image, count in enumerate(targets.counts):
        own = slice(first, first + count)
        alone = assigner(
            LayerPredictions(
                predictions.logits_BNK[image : image + 1], predictions.boxes_BN4[image : image + 1]
            ),
            Targets(targets.labels_G[own], targets.boxes_G4[own], (count,), targets.num_boxes),
        )
        mine = [(0, q, g - first) for i, q, g in together if i == image]
        assert mine == pairs_of(alone)[0]
        first += count


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("option", [{"k": 1}, {"threshold": 0.7}, {"alpha": 0.9}])
def test_knobs_are_live(name, option):
    predictions, targets = problem(60, [9, 4], seed=31)
    kind = ASSIGNERS.get(name)
    before, after = (pairs_of(kind(**o)(predictions, targets)) for o in ({}, option))
    assert before != after


def test_half_precision_predictions_are_scored_in_float32():
    predictions, targets = problem(40, [5], seed=41)
    half = LayerPredictions(predictions.logits_BNK.half(), predictions.boxes_BN4.half())
    same = LayerPredictions(half.logits_BNK.float(), half.boxes_BN4.float())
    assert AllPairsTopKAssigner().scores(half, targets).dtype == torch.float32
    pairs = (pairs_of(AllPairsTopKAssigner()(p, targets)) for p in (half, same))
    assert next(pairs) == next(pairs)


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", ["logits_BNK", "boxes_BN4"])
def test_non_finite_predictions_make_the_normalizer_nan(kind, value, place):
    for image in (0, 1):  # the second has no objects
        predictions, targets = problem(12, [2, 0], seed=51)
        getattr(predictions, place)[image, 7, 2] = value
        found = kind()(predictions, targets)
        assert found.normalizer.isnan()
        assert found.query_P.min() >= 0 and found.query_P.max() < 12


@pytest.mark.parametrize(
    ("option", "value"),
    [("k", 0), ("k", 2.5), ("k", True), ("k", None), ("k", "6"), ("threshold", -0.1)]
    + [("threshold", float("nan")), ("threshold", None), ("alpha", 1.5), ("alpha", "0.3")],
)
@pytest.mark.parametrize("kind", CLASSES)
def test_meaningless_settings_are_refused(kind, option, value):
    with pytest.raises(ValueError, match=f"{option} must be .*, got {value!r}"):
        kind(**{option: value})


def test_the_base_selects_nothing():
    predictions, targets = problem(4, [1])
    with pytest.raises(NotImplementedError):
        TopKAssigner()(predictions, targets)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_top_k_takes_the_first_of_equals(dtype):
    generator = torch.Generator().manual_seed(0)
    for columns in (1, 5, 63, 64, 900):
        score = torch.randint(-1, 5, (20, columns), generator=generator).to(dtype).div(4).clamp(-1)
        score[score < 0] = -1
        value, column = top_k_first(score, 7)
        order = [sorted(range(columns), key=lambda c: (-row[c], c))[:7] for row in score.tolist()]
        assert column.tolist() == order
        assert torch.equal(value, score.gather(1, column))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_lowest_k_takes_the_first_of_equals(dtype):
    generator = torch.Generator().manual_seed(0)
    for columns in (1, 5, 63, 64, 900):
        cost = torch.randint(0, 5, (20, columns), generator=generator).to(dtype) * 1e-3
        order = [sorted(range(columns), key=lambda c: (row[c], c))[:7] for row in cost.tolist()]
        assert lowest_k_first(cost, 7).tolist() == order


def test_favourites_of_images_without_objects():
    score = torch.tensor([[0.5, 0.2], [0.5, 0.3]])
    targets = Targets(torch.zeros(2).long(), torch.rand(2, 4), (0, 2, 0), torch.tensor(2.0))
    best, index = favourites(score, targets)
    assert best.tolist() == [[-1, -1], pytest.approx([0.5, 0.3]), [-1, -1]]
    assert index.tolist() == [[2, 2], [0, 1], [2, 2]]
