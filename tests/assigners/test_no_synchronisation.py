"""From predictions to losses nothing asks the device for a value."""

from collections import Counter

import pytest
import torch
from assigners.problems import problem
from torch.utils._python_dispatch import TorchDispatchMode

from ms_detr.assigners import AppendMissing, OverrideByOneToMany
from ms_detr.losses import FocalLoss, GIoULoss, L1Loss
from ms_detr.registry import ASSIGNERS
from ms_detr.structures import Assignment

# Operators whose output has a size, or is a host value, that only the device knows; and copies of
# host values to the device, which wait for it as well.
WAITING = {
    *("_local_scalar_dense", "item", "nonzero", "nonzero_static", "masked_select", "equal"),
    *("unique", "_unique", "_unique2", "unique_dim", "unique_consecutive", "is_nonzero"),
    *("bincount", "repeat_interleave", "lift_fresh", "tensor", "scalar_tensor", "histc"),
}
TOP_K = ["AllPairsTopKAssigner", "BestObjectTopKAssigner", "ReleasedTopKAssigner"]


class Calls(TorchDispatchMode):
    """Counts the operators that wait for a device, also those that index with a mask."""

    def __init__(self):
        super().__init__()
        self.waiting, self.all = Counter(), 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.split("::")[1].rstrip("_")
        self.all += 1
        if name in WAITING:
            self.waiting[name] += 1
        if name in ("index", "index_put", "_index_put_impl"):
            masks = [index for index in args[1] if index is not None and index.dtype == torch.bool]
            self.waiting[f"{name} with a mask"] += len(masks)
        if name == "where" and not all(isinstance(a, torch.Tensor) for a in args):
            self.waiting["where with a host value"] += 1
        return func(*args, **(kwargs or {}))


def waiting_calls(work):
    with Calls() as calls:
        work()
    assert calls.all > 0
    return +calls.waiting


@pytest.fixture
def batch():
    predictions, targets = problem(30, [4, 0, 7])
    predictions.boxes_BN4.requires_grad_()
    predictions.logits_BNK.requires_grad_()
    return predictions, targets


@pytest.mark.parametrize("name", TOP_K)
def test_assigning_merging_and_losses_do_not_wait(name, batch):
    predictions, targets = batch
    assigner = ASSIGNERS.get(name)()
    pair = torch.tensor([0])
    yes = torch.tensor([True])
    single = Assignment(pair, pair, pair, yes, yes, targets.num_boxes)

    def work():
        assignment = assigner(predictions, targets)
        for merge in (AppendMissing(), OverrideByOneToMany()):
            merged = merge(assignment, single, predictions)
            terms = (FocalLoss(1.0), L1Loss(1.0), GIoULoss(1.0))
            sum(term(predictions, targets, merged) for term in terms).backward()

    assert not waiting_calls(work)


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
    ],
)
def test_waiting_is_seen(work):
    assert waiting_calls(lambda: work(torch.ones(3)))


@pytest.mark.gpu
@pytest.mark.parametrize("name", TOP_K)
def test_a_gpu_is_not_waited_for(name):
    predictions, targets = problem(300, [40, 0, 7])
    cuda = [
        type(predictions)(predictions.logits_BNK.cuda(), predictions.boxes_BN4.cuda()),
        type(targets)(
            *(targets.labels_G.cuda(), targets.boxes_G4.cuda(), targets.counts),
            targets.num_boxes.cuda(),
        ),
    ]
    assigner = ASSIGNERS.get(name)()
    terms = (FocalLoss(1.0), L1Loss(1.0), GIoULoss(1.0))
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = assigner(*cuda)
        losses = [term(*cuda, found) for term in terms]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    expected = assigner(predictions, targets)
    for name in ("query_P", "target_P", "valid_P", "labelled_P"):
        assert torch.equal(getattr(found, name).cpu(), getattr(expected, name))
    for term, loss in zip(terms, losses):
        theirs = term(predictions, targets, expected)
        torch.testing.assert_close(loss.cpu(), theirs, rtol=1e-5, atol=1e-6)
