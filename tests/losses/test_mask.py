"""Mask losses: points, terms and their sums, against slow references; memory by counting."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from detectron2.projects.point_rend.point_features import (
    get_uncertain_point_coords_with_randomness,
    point_sample,
)
from losses.mask_problems import pairs, problem
from torch.utils._python_dispatch import TorchDispatchMode

from ms_detr.losses import (
    EveryLayerMaskLosses,
    FocalLoss,
    MaskCrossEntropy,
    MaskDice,
    MaskLosses,
    MaskSamples,
    UncertainPoints,
)
from ms_detr.structures import Lesson
from ms_detr.structures.masks import ObjectMasks


def losses(number=64, **options) -> MaskLosses:
    points = UncertainPoints(num_points=number, **options)
    return MaskLosses(points=points, mask=MaskCrossEntropy(1.0), dice=MaskDice(1.0))


@pytest.mark.parametrize("oversample, importance", [(3.0, 0.75), (1.0, 0.0), (2.0, 1.0)])
def test_points_are_those_of_detectron2_on_an_image_without_padding(oversample, importance):
    logits = torch.randn(5, 1, 9, 7, generator=torch.Generator().manual_seed(0))
    # Between the outermost centres and the border detectron2 mixes in zeros.
    logits = torch.nn.functional.pad(logits, (1, 1, 1, 1))
    torch.manual_seed(1)
    expected = get_uncertain_point_coords_with_randomness(
        logits, lambda x: -x.abs(), 40, oversample, importance
    )
    torch.manual_seed(1)
    points = UncertainPoints(num_points=40, oversample=oversample, importance=importance)
    found = points(logits[:, 0], torch.ones(5, 2))
    assert found.shape == (5, 40, 2) and not found.requires_grad
    # Both have the same points, of which equally uncertain ones may be in another order.
    assert torch.allclose(*(p.flatten(1).sort(1)[0] for p in (found, expected)), atol=1e-6)


def test_points_crowd_where_the_mask_is_undecided():
    logits = torch.full((1, 16, 16), 8.0)
    logits[:, :, 4:8] = torch.tensor([3.0, 0.0, 0.0, 3.0])
    extent = torch.tensor([[0.5, 1.0]])  # the image ends at column 8
    x = UncertainPoints(num_points=400)(logits, extent)[0, :, 0] * 8
    near = ((x > 4.5) & (x < 7.5)).float().mean()
    assert near > 0.7  # 3 of 8 columns hold three quarters of the points
    assert ((x >= 0) & (x <= 8)).all()
    uniform = UncertainPoints(num_points=400, importance=0.0)(logits, extent)[0, :, 0] * 8
    assert 0.28 < ((uniform > 4.5) & (uniform < 7.5)).float().mean() < 0.48


def test_seed_decides():
    logits, extent = torch.randn(2, 8, 8), torch.ones(2, 2)
    points = UncertainPoints(num_points=30)
    torch.manual_seed(3)
    first, second = points(logits, extent), points(logits, extent)
    torch.manual_seed(3)
    assert torch.equal(points(logits, extent), first) and not torch.equal(first, second)


def test_terms_by_hand():
    logits = torch.tensor([[0.0, 2.0], [-1.0, 3.0], [0.5, 0.5]])
    truth = torch.tensor([[0.0, 1.0], [1.0, 0.25], [0.0, 0.0]])
    samples = MaskSamples(logits, truth, torch.tensor(4.0))
    entropy = dice = 0.0
    for row, row_truth in zip(logits.tolist(), truth.tolist()):
        p = [1 / (1 + math.exp(-x)) for x in row]
        terms = [-t * math.log(q) - (1 - t) * math.log(1 - q) for q, t in zip(p, row_truth)]
        entropy += sum(terms) / 2
        both = sum(q * t for q, t in zip(p, row_truth))
        dice += 1 - (2 * both + 1) / (sum(p) + sum(row_truth) + 1)
    assert MaskCrossEntropy(7.0)(samples).item() == pytest.approx(entropy / 4)
    assert MaskDice(7.0)(samples).item() == pytest.approx(dice / 4)


def test_right_masks_cost_nothing_and_wrong_ones_all():
    truth = (torch.rand(3, 50) > 0.5).float()
    right = MaskSamples(100 * (2 * truth - 1), truth, torch.tensor(3.0))
    wrong = replace(right, logits_PR=-right.logits_PR)
    for term in (MaskCrossEntropy(1.0), MaskDice(1.0)):
        assert term(right).item() == pytest.approx(0, abs=1e-6)
    assert MaskCrossEntropy(1.0)(wrong).item() == pytest.approx(100)
    assert MaskDice(1.0)(wrong).item() > 0.9


def test_samples_against_a_dense_reference():
    """Whole maps of all queries and whole masks in floating point, pair by pair."""
    predictions, targets = problem()
    rows = [(1, 2, 4), (0, 5, 1), (1, 0, 2)]
    asked = losses(importance=0.5)
    drawn = []
    asked.points = lambda *args: drawn.append(UncertainPoints(num_points=64)(*args)) or drawn[0]
    samples = asked.sample(Lesson(predictions, targets, pairs(*rows)))
    (points,) = drawn

    masks = predictions.masks
    dense = torch.einsum("bnc,bchw->bnhw", masks.states_BNC, masks.batch.pixels)
    inside = ((points > 0.2) & (points < 0.8)).all(2)  # where the border plays no part
    assert inside.sum() > 20
    # The pairs are ordered by image.
    for row, (image, query, target) in enumerate([rows[1], rows[0], rows[2]]):
        place = points[row] * masks.batch.extent_B2[image]
        logits = point_sample(dense[image, query][None, None], place[None], align_corners=False)
        keep = inside[row]
        assert torch.allclose(samples.logits_PR[row, keep], logits[0, 0, keep], atol=1e-5)
        width, height = targets.masks.size_G2[target].tolist()
        first = targets.masks.first_G[target]
        mask = targets.masks.pixels[first : first + width * height].view(height, width).float()
        truth = point_sample(mask[None, None], points[row, None], align_corners=False)[0, 0]
        assert torch.allclose(samples.truth_PR[row], truth, atol=1e-5)


def test_terms_see_the_same_points():
    predictions, targets = problem()
    seen = []

    class Spy(MaskDice):
        def __call__(self, samples):
            seen.append(samples)
            return super().__call__(samples)

    spies = MaskLosses(points=UncertainPoints(num_points=8), a=Spy(2.0), b=Spy(3.0))
    found = spies(Lesson(predictions, targets, pairs((0, 1, 0))))
    assert seen[0] is seen[1]
    assert found["b"].item() == pytest.approx(1.5 * found["a"].item())


def test_slots_without_a_pair_do_not_exist():
    predictions, targets = problem()
    torch.manual_seed(0)
    alone = losses()(Lesson(predictions, targets, pairs((0, 1, 0), (1, 2, 3))))
    torch.manual_seed(0)
    rows = [(0, 0, 0), (0, 1, 0), (1, 5, 4), (1, 2, 3)]
    slots = pairs(*rows, valid=[False, True, False, True])
    found = losses()(Lesson(predictions, targets, slots))
    assert found.keys() == alone.keys() and all(found[k] == alone[k] for k in alone)
    sum(found.values()).backward()
    taught = predictions.masks.states_BNC.grad.abs().sum(2) > 0
    assert taught.nonzero().tolist() == [[0, 1], [1, 2]]


@pytest.mark.parametrize("rows, counts", [([], (0, 0)), ([], (2, 3)), ([(1, 0, 0)], (0, 1))])
def test_few_pairs(rows, counts):
    predictions, targets = problem(counts)
    found = losses()(Lesson(predictions, targets, pairs(*rows)))
    assert all((loss > 0) == bool(rows) for loss in found.values())
    sum(found.values()).backward()
    gradient = predictions.masks.states_BNC.grad
    assert gradient is not None and bool(gradient.any()) == bool(rows)


def test_a_hundred_objects():
    predictions, targets = problem((100, 1), queries=120)
    rows = [(0, index + 5, index) for index in range(100)]
    found = losses()(Lesson(predictions, targets, pairs(*rows, normalizer=101.0)))
    assert all(torch.isfinite(loss) for loss in found.values())


def test_normalizer_divides_and_carries_nan():
    predictions, targets = problem()
    values = []
    for number in (1.0, 4.0, float("nan")):
        torch.manual_seed(0)
        found = losses()(Lesson(predictions, targets, pairs((0, 1, 0), normalizer=number)))
        values.append(found["dice"].item())
    assert values[1] == pytest.approx(values[0] / 4) and math.isnan(values[2])


def test_layers():
    points = UncertainPoints()
    assert list(MaskLosses(points=points, dice=MaskDice(1.0)).layers(6)) == [5]
    assert list(EveryLayerMaskLosses(points=points, dice=MaskDice(1.0)).layers(3)) == [0, 1, 2]


class Largest(TorchDispatchMode):
    """Bytes of the largest tensor that an operator makes."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for made in result if isinstance(result, (list, tuple)) else [result]:
            if isinstance(made, torch.Tensor):
                self.bytes = max(self.bytes, made.untyped_storage().nbytes())
        return result


def largest(queries: int, slots: int, valid: int) -> int:
    predictions, targets = problem(
        (4, 4), ((160, 160), (160, 160)), cells=(40, 40), queries=queries
    )
    rows = [(slot % 2, slot, 0) for slot in range(slots)]
    given = pairs(*rows, valid=[slot < valid for slot in range(slots)])
    # A loop over images, as in the head, instead of a copy of the pixels for every pair.
    batch = replace(
        predictions.masks.batch,
        head=lambda pixels, states, image, boxes: torch.stack(
            [torch.tensordot(s, pixels[i], 1) for s, i in zip(states, image.tolist())]
        ),
    )
    predictions = replace(predictions, masks=replace(predictions.masks, batch=batch))
    with Largest() as count:
        sum(losses(200)(Lesson(predictions, targets, given)).values()).backward()
    return count.bytes


def test_memory_grows_with_pairs_and_with_nothing_else():
    usual = largest(50, 8, 8)
    assert usual == 8 * 40 * 40 * 4  # the maps of the pairs
    assert largest(50, 16, 16) == 2 * usual
    assert largest(400, 8, 8) == usual
    assert largest(400, 200, 8) == usual


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: MaskLosses(points=UncertainPoints()), "at least one term"),
        (lambda: MaskLosses(points=5, dice=MaskDice(1.0)), "points of MaskLosses must be of class"),
        (lambda: MaskLosses(points=UncertainPoints(), c=FocalLoss(1.0)), "mask term c must be"),
        (lambda: MaskDice(-1.0), "weight of MaskDice"),
        (lambda: UncertainPoints(num_points=0), "num_points must be a whole number .*got 0"),
        (lambda: UncertainPoints(num_points=True), "num_points .*got True"),
        (lambda: UncertainPoints(oversample=0.5), "oversample must be .* 1, got 0.5"),
        (lambda: UncertainPoints(importance=1.5), r"importance .*\[0, 1\], got 1.5"),
    ],
)
def test_arguments_that_make_no_sense(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_masks_that_are_not_there():
    predictions, targets = problem()
    for given in (
        (replace(predictions, masks=None), targets),
        (predictions, replace(targets, masks=None)),
    ):
        with pytest.raises(ValueError, match="need masks of predictions and of targets"):
            losses()(Lesson(*given, pairs((0, 1, 0))))
    assert isinstance(targets.as_objectness().masks, ObjectMasks)
