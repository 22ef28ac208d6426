"""Which candidates become queries."""

from __future__ import annotations

import pytest
import torch

from ms_detr.supervision.auxiliary import BACKGROUND, UNUSED
from ms_detr.supervision.sources import FilledPositives, PositivesOnly

# Image 0 has three positives, image 1 one, image 2 none.
OBJECTS = torch.tensor(
    [
        [-1, 0, -2, 1, -1, 0, -1, -1, -1, -1],
        [-2, -2, -1, -1, 2, -2, -2, -2, -2, -2],
        [-1, -1, -1, -1, -1, -1, -1, -1, -2, -2],
    ]
)


def rows(selected):
    """(candidate, what it is taught) of the slots of every image, in their order."""
    pairs = torch.stack([selected.candidate_BN, selected.object_BN], -1)
    return [[tuple(pair) for pair in image] for image in pairs.tolist()]


def test_positives_only():
    selected = PositivesOnly()(OBJECTS)
    assert selected.counts == (3, 1, 0)
    first, second, third = rows(selected)
    assert set(first) == {(1, 0), (3, 1), (5, 0)}
    assert second[0] == (4, 2) and [taught for _, taught in second[1:]] == [UNUSED] * 2
    assert [taught for _, taught in third] == [UNUSED] * 3


def test_filled_positives():
    selected = FilledPositives(least=6)(OBJECTS)
    assert selected.counts == (3, 1, 0)
    first, second, third = rows(selected)
    assert set(first[:3]) == {(1, 0), (3, 1), (5, 0)}
    assert all(taught == BACKGROUND == OBJECTS[0, who] for who, taught in first[3:])
    # two candidates of image 1 are background; what is left is taught nothing
    assert second[0] == (4, 2) and set(second[1:3]) == {(2, BACKGROUND), (3, BACKGROUND)}
    assert [taught for _, taught in second[3:]] == [UNUSED] * 3
    assert all(taught == BACKGROUND for _, taught in third)
    for image in rows(selected):
        assert len({who for who, _ in image}) == 6


@pytest.mark.parametrize("least, number", [(0, 3), (2, 3), (5, 5), (10, 10), (20, 10)])
def test_number_of_filled_positives(least, number):
    """The most positives of an image, at least `least`, not more than there are candidates."""
    assert FilledPositives(least=least)(OBJECTS).candidate_BN.shape == (3, number)


@pytest.mark.parametrize("kind", [PositivesOnly, FilledPositives])
def test_more_positives_than_the_cap_are_drawn_evenly(kind):
    options = {"least": 1} if kind is FilledPositives else {}
    object_BA = torch.full((1, 20), BACKGROUND)
    object_BA[0, 5:15] = torch.arange(10)
    torch.manual_seed(0)
    drawn = torch.zeros(20)
    for _ in range(400):
        selected = kind(most=3, **options)(object_BA)
        assert selected.counts == (3,) and selected.candidate_BN.shape == (1, 3)
        assert torch.equal(selected.object_BN, selected.candidate_BN - 5)
        drawn[selected.candidate_BN[0]] += 1
    assert drawn[:5].sum() == drawn[15:].sum() == 0
    assert (drawn[5:15] > 80).all() and (drawn[5:15] < 160).all()  # 120 each, on average


def test_background_is_drawn_at_random():
    object_BA = torch.full((1, 50), BACKGROUND)
    torch.manual_seed(0)
    drawn = torch.cat([FilledPositives(least=9)(object_BA).candidate_BN[0] for _ in range(100)])
    assert len(drawn.unique()) == 50 and drawn.bincount().max() < 40


def test_a_seed_decides():
    selection = FilledPositives(least=8)
    torch.manual_seed(3)
    one = selection(OBJECTS)
    torch.manual_seed(3)
    assert torch.equal(one.candidate_BN, selection(OBJECTS).candidate_BN)


@pytest.mark.parametrize("kind", [PositivesOnly, FilledPositives])
def test_without_candidates_there_are_no_queries(kind):
    selected = kind()(torch.zeros(2, 0, dtype=torch.int64))
    assert selected.candidate_BN.shape == selected.object_BN.shape == (2, 0)
    assert selected.counts == (0, 0)


def test_without_positives():
    object_BA = torch.full((2, 30), BACKGROUND)
    assert PositivesOnly()(object_BA).candidate_BN.shape == (2, 0)
    filled = FilledPositives()(object_BA)
    assert filled.candidate_BN.shape == (2, 9) and (filled.object_BN == BACKGROUND).all()


@pytest.mark.parametrize(
    "kind, options, message",
    [
        (PositivesOnly, {"most": 0}, "most of PositivesOnly must be a whole .* least 1, got 0"),
        (FilledPositives, {"most": 2.5}, "most of FilledPositives .* got 2.5"),
        (FilledPositives, {"least": -1}, "least of FilledPositives .* least 0, got -1"),
        (FilledPositives, {"most": 5}, "least of FilledPositives is 9, but most is 5"),
    ],
)
def test_wrong_numbers_are_named(kind, options, message):
    with pytest.raises(ValueError, match=message):
        kind(**options)
