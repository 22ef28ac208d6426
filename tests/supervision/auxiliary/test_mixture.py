"""The mixture against a loop, recorded results of scikit-learn, and cases known beforehand."""

import math
import random

import pytest
import slow_mixture
import torch

from ms_detr.supervision.auxiliary.mixture import fit_two_gaussians, likely_small


def random_rows():
    """Rows of every kind: spread, in two clusters, skew, few different values, nearly equal."""
    draw = random.Random(3)
    rows = []
    for number in range(60):
        size = draw.randint(2, 30)
        kinds = [
            lambda _: draw.uniform(0, 4),
            lambda i: draw.gauss(0.5, 0.1) if i % 2 else draw.gauss(3, 0.5),
            lambda _: draw.gammavariate(2, 0.5),
            lambda _: draw.randint(0, 3) / 2,
            lambda _: draw.gauss(1, 0.05),
        ]
        rows.append([kinds[number % len(kinds)](i) for i in range(size)])
    return rows


def table_of(rows, dtype=torch.float64):
    """The rows filled up with numbers that are not there, and which are there."""
    width = max(map(len, rows))
    values = torch.full((len(rows), width), 1e3, dtype=dtype)
    present = torch.zeros(len(rows), width, dtype=torch.bool)
    for row, given in enumerate(rows):
        # not always in the same columns
        columns = torch.randperm(width, generator=torch.Generator().manual_seed(row))[: len(given)]
        values[row, columns.sort()[0]] = torch.tensor(given, dtype=dtype)
        present[row, columns] = True
    return values, present


def chosen(row):
    values = torch.tensor([row])
    return likely_small(values, torch.ones_like(values, dtype=torch.bool))[0].tolist()


def test_rows_are_fitted_as_by_a_loop():
    rows = random_rows()
    values, present = table_of(rows)
    mixture = fit_two_gaussians(values, present)
    small = likely_small(values, present)
    assert not (small & ~present).any()
    both = set()
    for row, given in enumerate(rows):
        for which, wanted in enumerate(slow_mixture.fit(given)):
            got = [x[row, 0, which].item() for x in
                   (mixture.weight_R12, mixture.mean_R12, mixture.variance_R12)]  # fmt: skip
            assert got == pytest.approx([wanted.weight, wanted.mean, wanted.variance], abs=1e-9)
        wanted = slow_mixture.small_ones(given)
        assert small[row][present[row]].tolist() == wanted, given
        both |= set(wanted)
    assert both == {False, True}


# What GaussianMixture of scikit-learn 1.9.1 makes of the rows, from the same start: weights, means,
# variances, component and logarithm of the density of every value.
RECORDED = [
    (
        [0.4, 0.55, 0.7, 0.85, 1.9, 2.2, 2.3, 2.9],
        [[0.499958993928, 0.500041006072], [0.624982772371, 2.324877815592],
         [0.028124453449, 0.132047454336]],
        [0, 0, 0, 0, 1, 1, 1, 1],
        [-0.726488558651, 0.073437556446, 0.073365530533, -0.726464534243,
         -1.283253274878, -0.658755475266, -0.602050243069, -1.852156210461],
        2,
    ),
    (
        [0.2, 1.1, 1.2, 1.3, 1.35, 1.6, 3.1],
        [[0.753907981971, 0.246092018029], [1.140127491651, 2.225149946383],
         [0.177450869547, 1.18813584532]],
        [0, 0, 0, 0, 0, 0, 1],
        [-2.587506543474, -0.269681537404, -0.268289148702, -0.318552574379,
         -0.36254303942, -0.755306382058, -2.729048491895],
        3,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("row", "parameters", "members", "densities", "smallest"), RECORDED)
def test_the_published_library_finds_the_same(row, parameters, members, densities, smallest):
    values, present = table_of([row])
    mixture = fit_two_gaussians(values, present)
    got = (mixture.weight_R12, mixture.mean_R12, mixture.variance_R12)
    torch.testing.assert_close(
        torch.cat(got)[:, 0], torch.tensor(parameters, dtype=torch.float64), rtol=0, atol=1e-10
    )
    joint = mixture.log_densities(values)[0]
    assert joint.argmax(1).tolist() == members
    assert joint.logsumexp(1).tolist() == pytest.approx(densities, abs=1e-10)
    assert likely_small(values, present).sum() == smallest


def test_clusters_far_apart_are_found():
    low, high = [0.9, 1.0, 1.1, 1.0], [50.0, 50.2, 49.8, 50.0, 50.5, 49.5]
    mixture = fit_two_gaussians(*table_of([low + high]))
    assert mixture.weight_R12.flatten().tolist() == pytest.approx([0.4, 0.6])
    assert mixture.mean_R12.flatten().tolist() == pytest.approx([1.0, 50.0])
    variances = [0.02 / 4 + 1e-6, (2 * 0.2**2 + 2 * 0.5**2) / 6 + 1e-6]
    assert mixture.variance_R12.flatten().tolist() == pytest.approx(variances)
    # Up to the most likely one, 1.0, of which there are two.
    assert chosen(low + high) == [True, True, False, True] + [False] * 6


@pytest.mark.parametrize("value", [0.0, 2.5, 1e4, -3.0])
@pytest.mark.parametrize("size", [1, 2, 9, 45])
def test_equal_values_are_all_small(value, size):
    assert all(chosen([value] * size))


@pytest.mark.parametrize("gap", [1e-3, 0.1, 1.0, 100.0])
def test_of_two_values_the_lesser_one_is_small(gap):
    assert chosen([1.0, 1.0 + gap]) == [True, False]
    assert chosen([1.0 + gap, 1.0]) == [False, True]


def test_equal_values_are_treated_alike_and_order_does_not_matter():
    row = [0.5, 0.7, 0.7, 0.6, 0.7, 2.0, 2.0, 3.0]
    small = chosen(row)
    assert small[1] == small[2] == small[4]
    order = [6, 2, 0, 7, 4, 5, 1, 3]
    assert chosen([row[i] for i in order]) == [small[i] for i in order]


def test_a_shift_moves_means_only():
    values, present = table_of(random_rows())
    here, there = fit_two_gaussians(values, present), fit_two_gaussians(values + 7, present)
    torch.testing.assert_close(there.mean_R12, here.mean_R12 + 7)
    torch.testing.assert_close(there.variance_R12, here.variance_R12)
    torch.testing.assert_close(there.weight_R12, here.weight_R12)


def test_rows_do_not_depend_on_each_other():
    rows = random_rows()
    values, present = table_of(rows, torch.float32)
    together = likely_small(values, present)
    for row in range(len(rows)):
        alone = likely_small(values[row : row + 1], present[row : row + 1])
        assert torch.equal(alone[0], together[row])


def test_nothing_is_small_where_there_is_nothing():
    present = torch.tensor([[False] * 4, [True] * 4])
    values = torch.tensor([[1.0, 2.0, math.nan, 0.0], [1.0, 1.1, 1.2, 9.0]])
    assert likely_small(values, present).tolist() == [[False] * 4, [True, True, False, False]]
    assert likely_small(values[:0], present[:0]).shape == (0, 4)
    of_none = fit_two_gaussians(values.nan_to_num(), present)
    for numbers in (of_none.weight_R12, of_none.mean_R12, of_none.variance_R12):
        assert numbers.isfinite().all()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_comes_to_light(bad):
    present = torch.ones(2, 4, dtype=torch.bool)
    small = likely_small(torch.tensor([[1.0, 2.0, bad, 3.0], [1.0, 1.1, 9.0, 9.1]]), present)
    assert small[0].all()
    assert small[1].tolist() == chosen([1.0, 1.1, 9.0, 9.1])
