"""How often matching and losses call PyTorch, and wait for the device.

Without a GPU the work is done on the device "meta": what is copied to the host is seen, and nobody
else can look at a value.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch
from losses.mask_problems import problem as mask_problem

from ms_detr.assigners import (
    AppendMissing,
    BlockwiseAssigner,
    FocalCost,
    HungarianAssigner,
    L1Cost,
    MatchCosts,
    RepeatingAssigner,
    run_together,
)
from ms_detr.errors import NonFiniteError
from ms_detr.losses import QualityFocalLoss
from ms_detr.structures import LayerPredictions, Targets

FEW = {"layers": 2, "tokens": 500}


@pytest.fixture(scope="module")
def benchmark(repository):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(repository / "tools"))
        import benchmark_criterion

        yield benchmark_criterion
        for name in ("benchmark_criterion", "criterion_loops", "calls"):
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def teachers(benchmark):
    return benchmark.supervisions(proposals=True)


def calls_of(benchmark, teachers, objects=7, **sizes):
    given = benchmark.problem(objects, device="meta", **sizes)
    return benchmark.calls_of(lambda: teachers(*given))


def test_a_step_waits_once_and_calls_little(benchmark, teachers):
    """300 queries, 6 layers, 17,821 tokens; heads are no part of it."""
    calls = calls_of(benchmark, teachers)
    print(f"{calls.all} calls of operators, {calls.waits} wait, {calls.to_device} to the device")
    assert calls.waits == calls.to_device == 1
    assert 200 < calls.all <= 600


@pytest.mark.parametrize("objects", [1, 30])
def test_calls_do_not_depend_on_sizes(benchmark, teachers, objects):
    usual = calls_of(benchmark, teachers, **FEW)
    for sizes in ({}, {"images": 5}, {"layers": 5}, {"queries": 70}):
        calls = calls_of(benchmark, teachers, objects, **FEW | sizes)
        assert calls.by_name == usual.by_name, sizes
        assert calls.waits == calls.to_device == 1


def test_a_batch_without_objects_needs_no_more(benchmark, teachers):
    calls, usual = calls_of(benchmark, teachers, 0, **FEW), calls_of(benchmark, teachers, **FEW)
    assert calls.all <= usual.all and calls.waits == calls.to_device == 1


def test_a_merge_does_not_wait(benchmark):
    teachers = benchmark.supervisions(proposals=True)
    teachers["mixed"].merge = AppendMissing()
    calls = calls_of(benchmark, teachers, **FEW)
    assert calls.waits == calls.to_device == 1


def test_quality_as_target_does_not_wait(benchmark):
    """For one-to-one and one-to-many pairs, and for proposals."""
    teachers = benchmark.supervisions(proposals=True)
    for supervision in teachers.values():
        supervision.terms.terms["class"] = QualityFocalLoss(1.0)
    calls = calls_of(benchmark, teachers, **FEW)
    assert calls.waits == calls.to_device == 1
    for sizes in ({"images": 5}, {"layers": 5}):
        assert calls_of(benchmark, teachers, 30, **FEW | sizes).by_name == calls.by_name


def test_who_looks_at_a_value_is_seen(benchmark, teachers):
    """The loops wait for every layer and object."""
    given = benchmark.problem(7, **FEW)
    loops = benchmark.calls_of(lambda: benchmark.criterion_loops.criterion(teachers, *given))
    assert loops.waits > 20
    with pytest.raises(RuntimeError, match="meta"):
        calls_of(benchmark, lambda outputs, targets: targets.num_boxes.item())


def predictions_of(images: int, layers: int) -> LayerPredictions:
    generator = torch.Generator().manual_seed(0)
    shape = (layers * images, 12)
    boxes = torch.rand(*shape, 4, generator=generator) * 0.4 + 0.1
    logits = torch.randn(*shape, 3, generator=generator)
    return LayerPredictions(logits, boxes, layers=layers, blocks=2)


def hungarian() -> HungarianAssigner:
    return HungarianAssigner(costs=MatchCosts(c=FocalCost(1.0), l1=L1Cost(1.0)))


ASSIGNERS = [
    hungarian(),
    RepeatingAssigner(assigner=hungarian(), repeats=2),
    BlockwiseAssigner(assigner=RepeatingAssigner(assigner=hungarian(), repeats=2)),
]


@pytest.mark.parametrize("assigner", ASSIGNERS, ids=lambda a: type(a).__name__)
def test_the_host_knows_the_pairs_of_every_image(assigner):
    """So that masks of one-to-one pairs need not ask the device."""
    targets = Targets(torch.arange(5) % 3, torch.rand(5, 4) + 0.1, (4, 0, 1), torch.tensor(5.0))
    predictions = predictions_of(3, layers=2)
    found = assigner(predictions, targets.in_layers(2))
    assert found.counts == tuple(torch.bincount(found.image_P, minlength=6).tolist())
    assert found.valid_P.all() and (found.image_P.diff() >= 0).all()
    for layer in range(2):
        known = found.pairs_of_layer(layer, 3)
        asked = replace(found, counts=None).pairs_of_layer(layer, 3)
        for name in ("image_P", "query_P", "target_P", "valid_P", "labelled_P"):
            assert torch.equal(getattr(known, name), getattr(asked, name))
        assert (known.image_P // 3 == layer).all() and len(known.image_P) == len(found.image_P) / 2


def test_masks_of_one_to_one_pairs_ask_nobody(benchmark):
    predictions, targets = mask_problem()
    found = hungarian()(predictions, targets)
    for counts, waits in ((found.counts, 0), (None, 1)):
        given = replace(found, counts=counts)
        assert benchmark.calls_of(lambda given=given: given.pairs_of_layer(0, 2)).waits == waits


def test_all_steps_share_one_copy():
    """Also with some that have nothing to show, in any order; results keep their order."""
    seen = []

    def shows(value):
        host = yield torch.full((2, 2), float(value))
        seen.append("solved")
        indices = yield host.flatten().long()[:value]
        return indices.tolist()

    def shows_nothing():
        assert (yield None) is None
        seen.append("done beside")
        return "nothing"

    found = run_together({"b": shows(3), "a": shows_nothing(), "c": shows(1)})
    assert list(found.items()) == [("b", [3, 3, 3]), ("a", "nothing"), ("c", [1])]
    assert seen == ["done beside", "solved", "solved"]
    assert run_together({"a": shows_nothing()}) == {"a": "nothing"} and run_together({}) == {}


def test_the_layer_of_a_value_that_is_not_finite_is_named():
    targets = Targets(torch.zeros(3).long(), torch.rand(3, 4), (1, 2), torch.tensor(3.0))
    predictions = predictions_of(2, layers=3)
    predictions.boxes_BN4[2 * 2 + 1, 0, 0] = float("nan")
    for assigner in (hungarian(), BlockwiseAssigner(assigner=hungarian())):
        with pytest.raises(NonFiniteError, match="^layer 2: class logits or boxes of the pred"):
            assigner(predictions, targets.in_layers(3))


@pytest.mark.gpu
def test_a_gpu_is_not_waited_for_otherwise(benchmark, teachers):
    """And the losses are those of the CPU."""
    given = benchmark.problem(7, device="cuda", **FEW)
    torch.cuda.set_sync_debug_mode("error")
    try:
        losses = teachers(*given)
        torch.stack(list(losses.values())).sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for name, loss in teachers(*benchmark.problem(7, **FEW)).items():
        torch.testing.assert_close(losses[name].cpu(), loss, rtol=1e-4, atol=1e-5)
