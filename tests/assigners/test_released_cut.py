"""The cap on positive queries of the released rule, drawn from a generator."""

import pytest
import torch
from assigners.problems import pairs_of

from ms_detr.assigners import ReleasedTopKAssigner, seeded_generator
from ms_detr.structures import LayerPredictions, Targets

QUERIES = 40


class Diagonal(ReleasedTopKAssigner):
    """Query n scores 0.5 + n/100 with object n of its image, and nothing with the others."""

    def scores(self, predictions, targets):
        count = len(targets.labels_G) // 2
        one = torch.zeros(count, QUERIES)
        place = torch.arange(count)
        one[place, place] = 0.5 + place / 100
        return torch.cat([one, one])


def positives(assigner, count=24):
    """Queries with an object, per image: each positive query is one pair here."""
    predictions = LayerPredictions(torch.zeros(2, QUERIES, 1), torch.ones(2, QUERIES, 4))
    labels = torch.zeros(2 * count, dtype=torch.int64)
    targets = Targets(labels, torch.ones(2 * count, 4), (count, count), torch.tensor(1.0))
    pairs, _ = pairs_of(assigner(predictions, targets))
    return [{q for i, q, _ in pairs if i == image} for image in range(2)]


def test_without_a_generator_the_best_stay():
    state = torch.random.get_rng_state()
    assert positives(Diagonal()) == [set(range(14, 24))] * 2  # int(0.25 * 40) = 10
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_generator_draws_as_many_and_only_positives():
    state = torch.random.get_rng_state()
    assigner = Diagonal(generator=seeded_generator(0))
    drawn = [found for _ in range(3) for found in positives(assigner)]
    assert all(len(found) == 10 and found <= set(range(24)) for found in drawn)
    assert len({frozenset(found) for found in drawn}) == 6  # images and calls differ
    assert torch.equal(torch.random.get_rng_state(), state)  # no hidden source of chance


def test_the_same_seed_draws_the_same():
    first, again, other = (Diagonal(generator=seeded_generator(seed)) for seed in (3, 3, 4))
    for _ in range(2):
        expected = positives(first)
        assert positives(again) == expected
        assert positives(other) != expected


def test_every_positive_has_the_same_chance():
    assigner = Diagonal(generator=seeded_generator(0))
    count = torch.zeros(24)
    for _ in range(300):
        for found in positives(assigner):
            count[list(found)] += 1
    # 600 draws of 10 out of 24: mean 250, standard deviation 12
    assert count.min() > 200 and count.max() < 300
    assert count.sum() == 6000


def test_below_the_cap_nothing_is_drawn_away():
    assert positives(Diagonal(generator=seeded_generator(0)), count=10) == [set(range(10))] * 2


def test_what_is_no_generator_is_refused():
    with pytest.raises(ValueError, match=r"generator must be a torch.Generator .* got 0"):
        ReleasedTopKAssigner(generator=0)
    for value in (0.0, 1.1, float("nan"), None, "0.25"):
        with pytest.raises(ValueError, match=f"positive_fraction must be .* got {value!r}"):
            ReleasedTopKAssigner(positive_fraction=value)
