"""From predictions to losses nothing asks the device for a value, and nothing waits to get there.

Without a GPU the work is done on the device "meta", which has no values at all: whoever asks for
one fails, and what comes from the host is seen as a copy between devices.
"""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from assigners.problems import problem
from torch.utils._python_dispatch import TorchDispatchMode

from ms_detr.assigners import AppendMissing, OverrideByOneToMany, seeded_generator
from ms_detr.losses import FocalLoss, GIoULoss, L1Loss
from ms_detr.registry import ASSIGNERS
from ms_detr.structures import Assignment, LayerPredictions, Lesson, Targets

# Operators whose output has a size, or is a host value, that only the device knows; and copies of
# host values to the device, which wait for it as well.
WAITING = {
    *("_local_scalar_dense", "item", "nonzero", "nonzero_static", "masked_select", "equal"),
    *("unique", "_unique", "_unique2", "unique_dim", "unique_consecutive", "is_nonzero"),
    *("bincount", "repeat_interleave", "lift_fresh", "tensor", "scalar_tensor", "histc"),
}
TOP_K = ["AllPairsTopKAssigner", "BestObjectTopKAssigner", "ReleasedTopKAssigner"]
# Assigners with their options; a generator of the CPU draws for predictions on any device.
CASES = [(name, {}) for name in TOP_K] + [("ReleasedTopKAssigner", {"generator"})]
MERGES = (AppendMissing(), OverrideByOneToMany())
TERMS = (FocalLoss(1.0), L1Loss(1.0), GIoULoss(1.0))


class Calls(TorchDispatchMode):
    """Counts the operators that wait for a device, also those that index with a mask."""

    def __init__(self):
        super().__init__()
        self.waiting, self.copies, self.all = Counter(), 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func._schema.name.split("::")[1].rstrip("_")
        self.all += 1
        if name in WAITING:
            self.waiting[name] += 1
        if name in ("index", "index_put", "_index_put_impl"):
            masks = [index for index in args[1] if index is not None and index.dtype == torch.bool]
            self.waiting[f"{name} with a mask"] += len(masks)
        if name == "where" and not all(isinstance(a, torch.Tensor) for a in args):
            self.waiting["where with a host value"] += 1
        result = func(*args, **kwargs)
        if name == "_to_copy":
            self.copy(args[0], result.device, kwargs.get("non_blocking", False))
        if name == "copy":
            self.copy(args[1], args[0].device, args[2:3] == (True,))
        return result

    def copy(self, source, device, non_blocking):
        """A copy to another device; only one from pinned memory is really not waited for."""
        if source.device != device:
            self.copies += 1
            pinned = source.device.type != "cpu" or device.type != "cuda" or source.is_pinned()
            self.waiting["copy between devices"] += not (non_blocking and pinned)


def calls_of(work):
    with Calls() as calls:
        work()
    assert calls.all > 0
    return calls


def waiting_calls(work):
    return +calls_of(work).waiting


def assigner_of(name, options):
    return ASSIGNERS.get(name)(**{option: seeded_generator(0) for option in options})


def batch(device, queries=30, counts=(4, 0, 7)):
    """Predictions and targets; on "meta" as well as where there are values."""
    predictions, targets = problem(queries, list(counts))
    logits, boxes = (
        t.to(device).requires_grad_() for t in (predictions.logits_BNK, predictions.boxes_BN4)
    )
    truth = (t.to(device) for t in (targets.labels_G, targets.boxes_G4))
    number = targets.num_boxes.to(device)
    return LayerPredictions(logits, boxes), Targets(*truth, targets.counts, number)


def single_pair(targets):
    pair = torch.zeros(1, dtype=torch.int64, device=targets.labels_G.device)
    yes = torch.ones_like(pair, dtype=torch.bool)
    return Assignment(pair, pair, pair, yes, yes, targets.num_boxes)


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("name, options", CASES, ids=str)
def test_assigning_merging_and_losses_do_not_wait(name, options, device):
    predictions, targets = batch(device)
    assigner, single = assigner_of(name, options), single_pair(targets)

    def work():
        assignment = assigner(predictions, targets)
        for merge in MERGES:
            merged = merge(assignment, single, predictions)
            lesson = Lesson(predictions, targets, merged)
            sum(term(lesson) for term in TERMS).backward()

    calls = calls_of(work)
    assert not +calls.waiting
    assert calls.copies == (device == "meta" and "generator" in options)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_images_of_the_objects_do_not_wait(device):
    """They are made on the host, so that a number of images costs nothing on the device."""
    _, targets = batch(device)
    made = (targets.labels_G, targets.boxes_G4, targets.counts, targets.num_boxes)
    calls = calls_of(lambda: Targets(*made))
    assert calls.copies == (device == "meta")
    assert not calls.waiting["copy between devices"]
    many = (*made[:2], (0,) * 500 + targets.counts, made[3])
    assert calls_of(lambda: Targets(*many)).all == calls.all
    assert calls_of(lambda: Targets(*made).image_G).all == calls.all


@pytest.mark.parametrize(
    "work",
    [
        lambda x: x.sum().item(),
        lambda x: x[x > 0],
        lambda x: bool((x > 0).any()),
        lambda x: (x > 0).nonzero(),
        lambda x: x.__setitem__(x > 0, 1.0),
        lambda x: torch.where(x > 0, x, 0.0),
        lambda x: torch.tensor([1.0]),  # noqa: ARG005
        lambda x: x.long().unique(),
        lambda x: x.to("meta"),
        lambda x: torch.empty(3, device="meta").copy_(x),
    ],
)
def test_waiting_is_seen(work):
    assert waiting_calls(lambda: work(torch.ones(3)))


@pytest.mark.gpu
@pytest.mark.parametrize("name, options", CASES, ids=str)
def test_a_gpu_is_not_waited_for(name, options):
    cuda, cpu = (batch(device, 300, (40, 0, 7)) for device in ("cuda", "cpu"))
    assigner, single = assigner_of(name, options), single_pair(cuda[1])
    torch.cuda.set_sync_debug_mode("error")
    try:
        with Calls() as calls:
            targets = replace(cuda[1], image_G=None)  # made anew
            found = assigner(cuda[0], targets)
            for merge in MERGES:
                merge(found, single, cuda[0])
            losses = [term(Lesson(*cuda, found)) for term in TERMS]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert calls.copies == 1 + ("generator" in options)
    assert not calls.waiting["copy between devices"]
    expected = assigner_of(name, options)(*cpu)
    for field in ("image_P", "query_P", "target_P", "valid_P", "labelled_P"):
        assert torch.equal(getattr(found, field).cpu(), getattr(expected, field))
    for term, loss in zip(TERMS, losses):
        torch.testing.assert_close(loss.cpu(), term(Lesson(*cpu, expected)), rtol=1e-5, atol=1e-6)
