"""Every knob of the mask parts changes something when it is turned, or is refused.

As in `test_knobs.py`, for what `configs/common/mask_head.py` adds: both heads, the losses, and the
prices in matching.
"""

from __future__ import annotations

import copy
from functools import cache

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from knobs import Built, Other, get, is_reference, knobs, put, turned
from small_models import CONFIGS, item, load, shrink

PARTS = str(CONFIGS / "common/mask_head.py")
LOSSES = "supervisions.one_to_one.masks."
COSTS = "supervisions.one_to_one.assigner.costs."
# Values that divide another one, or name something.
TURNED = {
    "mask_head.num_groups": 1,
    "mask_head.num_heads": 2,
    "mask_head.num_levels": 2,
    "mask_head.level": 1,
    "mask_head.embed_dim": 64,
    f"{LOSSES}points.importance": 0.25,
    f"{COSTS}mask.weight": 1e4,
    f"{COSTS}dice.weight": 1e4,
}


@cache
def model_of(head: str):
    """The model with masks everywhere they can be."""
    model = load("models/ms_detr_mask.py").model
    if head == "attention":
        model.mask_head = LazyConfig.load(PARTS, "attention")
    model = shrink(model)
    model.encoder.dropout = 0.0
    if head == "attention":
        model.mask_head.num_heads = 4
    costs = LazyConfig.load(PARTS, "mask_costs")
    model.supervisions.one_to_one.assigner.costs.update(costs)
    for name in costs:
        model.supervisions.one_to_one.assigner.costs[name].num_points = 100
    return model


def of(head: str) -> list[str]:
    prefixes = ["mask_head.", *([LOSSES, f"{COSTS}mask.", f"{COSTS}dice."] * (head != "attention"))]
    return [key for key in knobs(model_of(head)) if key.startswith(tuple(prefixes))]


@cache
def usual(head: str) -> dict[str, torch.Tensor]:
    return behaviour(model_of(head))


def behaviour(node) -> dict[str, torch.Tensor]:
    """Shapes, losses and gradients of the first step."""
    torch.manual_seed(0)
    model = instantiate(node)
    torch.manual_seed(1)
    losses = model([item(64, 80, 4, seed=3)])
    sum(losses.values()).backward()
    return losses | {name: p.grad for name, p in model.named_parameters()}


KEYS = [(head, key) for head in ("query_pixel", "attention") for key in of(head)]


def test_all_parts_are_there():
    assert len(KEYS) >= 28 and {key.partition(".")[0] for _, key in KEYS} == {
        "mask_head", "supervisions",
    }  # fmt: skip


@pytest.mark.parametrize("head, key", KEYS)
def test_knob(head, key):
    node = copy.deepcopy(model_of(head))
    value = get(node, key)
    if key.endswith("_target_"):
        put(node, key, Other)
        with pytest.raises(Built):
            behaviour(node)
        return
    put(node, key, TURNED.get(key) or turned(value))
    try:
        found = behaviour(node)
    except (ValueError, RuntimeError):
        # Channels of maps, and what refers to other parts, have to agree with them.
        assert "in_channels" in key or is_reference(model_of(head), key)
        return
    before = usual(head)
    same = found.keys() == before.keys() and all(torch.equal(found[k], before[k]) for k in before)
    assert not same, f"{key} changes nothing"
