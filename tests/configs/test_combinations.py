"""All implementations of mixed supervision, with every choice of branch and heads, on every base.

What a combination is made of is checked here; that its numbers are the published ones is the matter
of the parity tests.
"""

from __future__ import annotations

import copy
import itertools
from functools import cache

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from small_models import CONFIGS, item, load, shrink

IMPLEMENTATIONS = "abcd"
BASES = ("deformable_detr", "deformable_detr_pp", "deformable_detr_one_stage")
PARTS = ("feed_forward", "own_class_heads", "own_box_heads")
COMBINATIONS = list(itertools.product(IMPLEMENTATIONS, BASES, *[(False, True)] * 3))


@cache
def shrunken(base: str):
    return shrink(load(f"models/{base}.py").model)


@cache
def mixed(name: str):
    return LazyConfig.load(str(CONFIGS / "common/supervision/mixed.py"), name)


def build(implementation: str, base: str, branch: bool, own_class: bool, own_box: bool):
    node = copy.deepcopy(shrunken(base))
    mixed(f"mix_{implementation}")(node)
    supervision = node.supervisions.mixed
    supervision.branch = mixed("feed_forward") if branch else None
    supervision.class_heads = mixed("own_class_heads") if own_class else None
    supervision.box_heads = mixed("own_box_heads") if own_box else None
    torch.manual_seed(0)
    return instantiate(node)


def detections(model, batch) -> list[torch.Tensor]:
    model.eval()
    with torch.no_grad():
        found = model(batch)[0]["instances"]
    return [found.pred_boxes.tensor, found.scores, found.pred_classes]


def taught(loss: torch.Tensor, parameters: list[torch.nn.Parameter]) -> list[bool]:
    """Which parameters a loss sends a gradient other than zero."""
    gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return [g is not None and bool(g.abs().sum() > 0) for g in gradients]


@pytest.mark.parametrize("implementation, base, branch, own_class, own_box", COMBINATIONS)
def test_combination(implementation, base, branch, own_class, own_box):
    model = build(implementation, base, branch, own_class, own_box)
    supervision = model.supervisions["mixed"]
    batch = [item(64, 80, 3)]
    losses = model(batch)
    by_supervision = {
        name: sum(loss for key, loss in losses.items() if key.startswith(f"{name}/"))
        for name in ("one_to_one", "mixed")
    }

    for own, heads, pick in (
        (own_class, "class_heads", lambda head: head.weight),
        (own_box, "box_heads", lambda head: head.layers[-1].weight),
    ):
        shared = [pick(head) for head in getattr(model.heads, heads)]
        assert all(taught(by_supervision["one_to_one"], shared)), heads
        # The last layer's, because look forward twice teaches earlier box heads through references.
        assert taught(by_supervision["mixed"], shared[-1:]) == [not own], heads
        assert (getattr(supervision, heads) is not None) == own
        if own:
            separate = [pick(head) for head in getattr(supervision, heads)]
            assert all(taught(by_supervision["mixed"], separate)), heads
            assert not any(taught(by_supervision["one_to_one"], separate)), heads

    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name

    with_supervisions = detections(model, batch)
    model.supervisions = None
    assert all(map(torch.equal, detections(model, batch), with_supervisions))


@pytest.mark.parametrize("base", BASES)
def test_only_training_knows_the_supervisions(base):
    """A model without supervisions takes the other weights of one with, and nothing is missing."""
    model = build("c", base, True, True, True)
    node = copy.deepcopy(shrunken(base))
    mixed("mix_c")(node)
    node.supervisions = None
    deployed = instantiate(node)
    state = {k: v for k, v in model.state_dict().items() if not k.startswith("supervisions.")}
    deployed.load_state_dict(state, strict=True)
    batch = [item(64, 80, 3)]
    assert all(map(torch.equal, detections(deployed, batch), detections(model, batch)))


def test_implementations_differ_and_taps_are_where_they_should():
    """Order and tap are two independent choices; order alone decides what is detected."""
    batch = [item(64, 80, 3)]
    found, losses = {}, {}
    for name in IMPLEMENTATIONS:
        model = build(name, "deformable_detr_pp", False, False, False)
        losses[name] = sum(v for k, v in model(batch).items() if k.startswith("mixed/")).item()
        found[name] = detections(model, batch)[1]
    assert torch.equal(found["a"], found["d"]) and torch.equal(found["b"], found["c"])
    assert not torch.equal(found["a"], found["b"])
    assert len({round(value, 6) for value in losses.values()}) == 4
