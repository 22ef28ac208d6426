"""Every knob of Group DETR, H-DETR, DN-DETR and DINO changes something.

As in test_knobs.py, for the parts that only these methods have.
"""

from __future__ import annotations

import copy
from functools import cache

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from knobs import Built, Other, get, is_reference, knobs, put, turned
from omegaconf import OmegaConf
from small_models import CONFIGS, item, load, shrink

ADDED = ("group", "hybrid", "denoising", "proposals", "group_proposals")
# Values that are names, or that must turn by more to count.
TURNED = {
    "supervisions.denoising.source.num_pairs": 12,
    "supervisions.group_proposals.group": "primary",
    "encoder.num_heads": 2,
}


def addition(path: str, name: str):
    return LazyConfig.load(str(CONFIGS / f"common/supervision/{path}.py"), name)


@cache
def small(name: str):
    """DINO and a one-stage model with more groups and a hybrid branch, ++ with DN's denoising."""
    node = shrink(load(f"models/{name}.py").model)
    node.encoder.dropout = 0.0
    if name == "deformable_detr_pp":
        addition("denoising", "add_denoising")(node, groups=2)
    else:
        addition("group", "add_group")(node, groups=3)
        addition("hybrid", "add_hybrid")(node, num_queries=15, repeats=2)
    if name == "dino":
        node.supervisions.denoising.source.num_pairs = 7
    return node


def keys(name: str) -> list[str]:
    """What these methods own; costs and terms are those of one-to-one supervision."""
    own = tuple(f"supervisions.{part}." for part in ADDED)
    own += ("queries.", "encoder.position.", "decoder.position.") if name == "dino" else ()
    found = []
    for key in knobs(small(name)):
        whole = OmegaConf.is_config(get(small(name), key))
        if key.startswith(own) and not whole and ".costs." not in key and ".terms." not in key:
            found.append(key)
    return found


MODELS = ("dino", "deformable_detr_one_stage", "deformable_detr_pp")
KNOBS = [(name, key) for name in MODELS for key in keys(name)]


def behaviour(node) -> dict[str, torch.Tensor]:
    """Losses and gradients of the first step."""
    torch.manual_seed(0)
    model = instantiate(node)
    torch.manual_seed(1)
    losses = model([item(64, 80, 3, seed=1), item(56, 64, 2, seed=2)])
    sum(losses.values()).backward()
    seen = {f"loss {key}": loss.detach() for key, loss in losses.items()}
    return seen | {f"gradient of {key}": p.grad for key, p in model.named_parameters()}


@cache
def usual(name: str) -> dict[str, torch.Tensor]:
    return behaviour(small(name))


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(
        one[key].shape == other[key].shape and torch.equal(one[key], other[key]) for key in one
    )


@pytest.mark.parametrize("name", MODELS)
def test_nothing_changes_by_itself(name):
    assert same(behaviour(small(name)), usual(name))


@pytest.mark.parametrize("name, key", KNOBS, ids=lambda value: value)
def test_knob(name, key):
    node = copy.deepcopy(small(name))
    value = get(node, key)
    if key.endswith("_target_"):
        put(node, key, Other)
        with pytest.raises(Built):
            instantiate(node)
        return
    if key.endswith(".tap"):
        other = "internal"
    elif key.endswith(".assigner"):
        other = node.supervisions.one_to_one.assigner
    else:
        other = TURNED[key] if key in TURNED else turned(value)
    put(node, key, other)
    try:
        changed = not same(behaviour(node), usual(name))
    except (RuntimeError, ValueError) as error:
        assert is_reference(small(name), key), (key, error)
    else:
        assert changed, f"{key} changes nothing: nobody reads it"
