"""The one-to-many assignment of the released code, on matrices worked out by hand."""

import pytest
import torch

from ms_detr.assigners import ReleasedTopKAssigner
from ms_detr.errors import NonFiniteError
from ms_detr.structures import LayerPredictions, Targets


class Scored(ReleasedTopKAssigner):
    """The assigner with a given score matrix instead of one from boxes and classes."""

    def __init__(self, matrix, **options):
        super().__init__(**options)
        self.matrix = torch.tensor(matrix)

    def scores(self, logits_NK, boxes_N4, labels_G, boxes_G4):  # noqa: ARG002
        return self.matrix

    def pairs(self):
        objects, queries = self.matrix.shape
        found = self.match(
            torch.zeros(queries, 1),
            torch.rand(queries, 4),
            torch.zeros(objects, dtype=torch.int64),
            torch.rand(objects, 4),
        )
        pairs = list(zip(found.target_P.tolist(), found.query_P.tolist()))
        return pairs, [p for p, own in zip(pairs, found.labelled_P.tolist()) if own]


def test_queries_above_the_threshold_go_to_their_favourite():
    matrix = [[0.9, 0.5, 0.1, 0.2], [0.3, 0.1, 0.7, 0.1], [0.1, 0.2, 0.1, 0.6]]
    pairs, owned = Scored(matrix, k=3, positive_fraction=1.0).pairs()
    assert pairs == owned == [(0, 0), (0, 1), (1, 2), (2, 3)]


def test_threshold_itself_counts():
    matrix = [[0.9, 0.4, 0.39]]
    assert Scored(matrix, threshold=0.4, positive_fraction=1.0).pairs()[0] == [(0, 0), (0, 1)]


def test_best_query_is_positive_below_the_threshold():
    assert Scored([[0.1, 0.2, 0.15]], positive_fraction=1.0).pairs()[0] == [(0, 1)]


def test_k_limits_an_object():
    matrix = [[0.9, 0.5, 0.8, 0.6]]
    assert Scored(matrix, k=2, positive_fraction=1.0).pairs()[0] == [(0, 0), (0, 2)]


def test_forced_query_keeps_its_own_favourite():
    # query 0 is the best of object 1, but likes object 0: object 1 stays without a query,
    # and object 0 has two positives, so it gets its two best of all
    matrix = [[0.9, 0.6], [0.3, 0.2]]
    assert Scored(matrix, positive_fraction=1.0).pairs()[0] == [(0, 0), (0, 1)]


def test_a_query_given_twice_learns_the_class_of_the_better_pair():
    # favourites: q0 -> 0, q1 -> 0, q2 -> 1, q3 -> 1; each object has two positives.
    # Object 0 takes q0 and q3, object 1 takes q3 and q2; q3 belongs to object 1 (0.95 > 0.85).
    matrix = [[0.9, 0.5, 0.1, 0.85], [0.2, 0.1, 0.8, 0.95]]
    pairs, owned = Scored(matrix, positive_fraction=1.0).pairs()
    assert pairs == [(0, 0), (0, 3), (1, 2), (1, 3)]
    assert owned == [(0, 0), (1, 2), (1, 3)]


def test_equal_objects_share_a_query_and_the_first_owns_the_class():
    pairs, owned = Scored([[0.9, 0.1], [0.9, 0.1]], positive_fraction=1.0).pairs()
    assert owned == [(0, 0)]
    assert pairs == [(0, 0)]


def test_positives_are_capped_by_score():
    # four positives, but at most int(0.5 * 4) = 2: the best two, one for each object
    matrix = [[0.9, 0.5, 0.1, 0.1], [0.1, 0.1, 0.8, 0.6]]
    assert Scored(matrix, positive_fraction=0.5).pairs()[0] == [(0, 0), (1, 2)]


def test_score_is_the_weighted_sum():
    box = torch.tensor([[0.5, 0.5, 0.2, 0.2]])
    shifted = torch.tensor([[0.6, 0.5, 0.2, 0.2]])  # intersection 0.02 of union 0.06
    score = ReleasedTopKAssigner(alpha=0.3).scores(
        torch.tensor([[0.0, 4.0]]), box, torch.tensor([0]), shifted
    )
    assert score.item() == pytest.approx(0.7 / 3 + 0.3 * 0.5)


def test_nothing_to_match_and_fewer_queries_than_k():
    assigner = ReleasedTopKAssigner(k=6, positive_fraction=1.0)
    targets = Targets(torch.tensor([0, 1]), torch.rand(2, 4) * 0.4 + 0.2, (0, 2), torch.tensor(2.0))
    found = assigner(LayerPredictions(torch.zeros(2, 3, 2), torch.rand(2, 3, 4)), targets)
    assert set(found.image_P.tolist()) <= {1}
    assert found.normalizer == 2


def test_non_finite_predictions_are_an_error():
    with pytest.raises(NonFiniteError, match="NaN or infinite"):
        Scored([[0.9, float("nan")]]).pairs()


@pytest.mark.parametrize(
    ("option", "value"),
    [("k", 0), ("k", 2.5), ("threshold", -0.1), ("alpha", 1.5), ("positive_fraction", 0.0)],
)
def test_meaningless_settings_are_refused(option, value):
    with pytest.raises(ValueError, match=f"{option} must be .*, got {value}"):
        ReleasedTopKAssigner(**{option: value})


def test_few_queries_still_teach_an_object():
    assert Scored([[0.9, 0.5, 0.1]]).pairs()[0] == [(0, 0)]
