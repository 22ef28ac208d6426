"""Every knob of the auxiliary heads, of their queries and of their maps changes something.

As in test_knobs.py, one head at a time; what all heads have in common is turned for ATSS only.
"""

from __future__ import annotations

import copy
from functools import cache

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from knobs import Built, Other, get, is_reference, knobs, put, turned
from omegaconf import OmegaConf
from small_models import CONFIGS, item, load, shrink, shrink_heads

HEADS = ("atss", "faster_rcnn", "paa", "retinanet", "fcos", "gfl")
BATCH = [item(128, 160, 3, seed=1), item(112, 128, 2, seed=2)]
# Values that are names, that divide another one, or that must turn by more to count; by the end of
# the key.
TURNED = {
    ".tap": "internal",
    ".strides": [16, 32, 64, 128, 256],
    "selection.most": 10,
    "selection.least": 100,
    ".embed_dim": 64,
    ".num_groups": 4,
    ".top_k": 2,
    ".proposals": 10,
    ".samples": 6,
    ".positive_fraction": 0.1,
}


@cache
def small(name: str):
    """Deformable-DETR++ with one head; of PyTorch's parts nothing is drawn but what is chosen."""
    node = shrink(load("models/deformable_detr_pp.py").model)
    path = str(CONFIGS / "common/supervision/collaborative.py")
    LazyConfig.load(path, "add_collaborative")(node, name)
    shrink_heads(node.supervisions)
    node.encoder.dropout = 0.0
    return node


def keys(name: str) -> list[str]:
    """Costs and terms are those of one-to-one supervision."""
    own = ("supervisions.atss.", "supervisions.adapter.")
    own = own if name == "atss" else (f"supervisions.{name}.source.head.",)
    found = []
    for key in knobs(small(name)):
        whole = OmegaConf.is_config(get(small(name), key)) and not key.endswith(".strides")
        if key.startswith(own) and not whole and ".terms." not in key:
            found.append(key)
    return found


KNOBS = [(name, key) for name in HEADS for key in keys(name)]


def behaviour(node) -> dict[str, torch.Tensor]:
    """Losses and gradients of the first step."""
    torch.manual_seed(0)
    model = instantiate(node)
    torch.manual_seed(1)
    losses = model(BATCH)
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


@pytest.mark.parametrize("name", HEADS)
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
    if key.endswith(".assigner"):
        other = node.supervisions.one_to_one.assigner
    else:
        chosen = [other for end, other in TURNED.items() if key.endswith(end)]
        other = chosen[0] if chosen else turned(value)
    put(node, key, other)
    try:
        changed = not same(behaviour(node), usual(name))
    except (RuntimeError, ValueError) as error:
        agrees = is_reference(small(name), key) or key.startswith("supervisions.adapter.strides")
        assert agrees, (key, error)
    else:
        assert changed, f"{key} changes nothing: nobody reads it"
