"""Every knob of Conditional DETR, DAB-DETR and DAB-Deformable-DETR changes something.

As in test_knobs.py, for the parts that only these models have.
"""

from __future__ import annotations

import copy
from functools import cache

import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from knobs import Built, Other, get, is_reference, knobs, put, turned
from small_models import item, load, shrink
from torch import nn

MODELS = ("conditional_detr_r50", "dab_detr_r50", "dab_deformable_detr_r50")
PARTS = ("neck.", "encoder.", "queries.", "decoder.", "heads.")
# Values that divide another one, or must turn a choice.
TURNED = {
    "neck.embed_dim": 64,
    "neck.num_groups": 4,
    "encoder.num_heads": 2,
    "encoder.dropout": 0.4,
    "encoder.activation": L(nn.GELU)(),
    "decoder.layer.num_heads": 2,
    "decoder.layer.activation": L(nn.GELU)(),
}


@cache
def small(name: str):
    return shrink(load(f"models/{name}.py").model)


def keys(name: str) -> list[str]:
    return [key for key in knobs(small(name)) if key.startswith(PARTS)]


KNOBS = [(name, key) for name in MODELS for key in keys(name)]


def behaviour(node) -> dict[str, torch.Tensor]:
    """Losses, gradients and scores of the first step."""
    torch.manual_seed(0)
    model = instantiate(node)
    torch.manual_seed(1)
    batch = [item(64, 80, 3, seed=1), item(56, 64, 2, seed=2)]
    losses = model(batch)
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
    put(node, key, TURNED[key] if key in TURNED else turned(value))
    try:
        changed = not same(behaviour(node), usual(name))
    except (RuntimeError, ValueError) as error:
        assert is_reference(small(name), key) or key.startswith("neck.in_channels"), (key, error)
    else:
        assert changed, f"{key} changes nothing: nobody reads it"
