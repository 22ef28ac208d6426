"""Recipes of Conditional DETR, DAB-DETR and DAB-Deformable-DETR hold the published values."""

from __future__ import annotations

import copy
import math
import re
from functools import cache

import pytest
import torch
from detectron2.config import instantiate
from small_models import CONFIGS, load

FAMILIES = ("conditional", "dab", "dab_deformable")
RECIPES = sorted(
    str(path.relative_to(CONFIGS))
    for folder in ("baselines", "ms_detr")
    for path in (CONFIGS / folder).glob("*.py")
    if re.search("conditional|dab", path.stem)
)


@cache
def loaded(name: str):
    """A config that no test may change."""
    return load(name)


@cache
def model_of(name: str):
    """The whole model, without memory for its weights."""
    with torch.device("meta"):
        return instantiate(loaded(name).model)


def family(name: str) -> str:
    return max((f for f in FAMILIES if f in name), key=len)


def class_of(part) -> str:
    return type(part).__name__


def test_every_family_has_all_recipes():
    found = [(family(name), name.startswith("ms_detr"), name[-7:-5]) for name in RECIPES]
    wanted = {(which, ms, epochs) for which in FAMILIES for ms in (0, 1) for epochs in ("12", "50")}
    # The baselines of Co-DETR.
    wanted |= {("conditional", 0, "36"), ("dab", 0, "36")}
    assert len(found) == len(wanted) and set(found) == wanted


@pytest.mark.parametrize("name", RECIPES)
def test_sizes(name):
    model, which = model_of(name), family(name)
    layers = [*model.encoder.layers, *model.decoder.layers]
    assert len(layers) == 12
    assert {layer.feed_forward.linear1.out_features for layer in layers} == {2048}
    activation = "PReLU" if which == "dab" else "ReLU"
    assert {class_of(layer.feed_forward.activation) for layer in layers} == {activation}
    dropouts = {m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)}
    dropouts |= {
        m.dropout for m in model.modules() if "Attention" in class_of(m) and hasattr(m, "dropout")
    }
    assert dropouts == {0.1 if which == "conditional" else 0.0}
    assert {layer.self_attention.num_heads for layer in model.decoder.layers} == {8}
    assert model.heads.num_classes == 80
    assert loaded(name).model.queries.num_queries == 300
    assert model.postprocess.num_detections == (100 if which == "conditional" else 300)
    assert model.neck.in_channels.keys() == (
        {"res3", "res4", "res5"} if which == "dab_deformable" else {"res5"}
    )


PARTS = {
    "conditional": (
        "DenseEncoder", "ConditionalQueries", "ConditionalPosition", "FixedReference",
        "NormalizedPredictionHeads",
    ),
    "dab": (
        "ScaledDenseEncoder", "AnchorQueries", "ModulatedAnchorPosition", "LookForwardTwice",
        "NormalizedPredictionHeads",
    ),
    "dab_deformable": (
        "DeformableEncoder", "ContentAnchorQueries", "ScaledReferencePosition",
        "DetachedRefinement", "PredictionHeads",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RECIPES)
def test_parts(name):
    model, which = model_of(name), family(name)
    decoder = model.decoder
    parts = (model.encoder, model.queries, decoder.position, decoder.refinement, model.heads)
    assert tuple(map(class_of, parts)) == PARTS[which]
    order = "CrossSelfLayer" if name.startswith("ms_detr") else "SelfCrossLayer"
    attention = "" if which == "dab_deformable" else "Conditional"
    assert {class_of(layer) for layer in decoder.layers} == {attention + order}
    sine = "SinePosition" if which == "dab_deformable" else "CornerSinePosition"
    assert class_of(model.encoder.position) == sine
    assert model.encoder.position.temperature == (20.0 if which == "dab" else 10000.0)
    embedding = decoder.position if which == "conditional" else decoder.position.embedding
    assert embedding.temperature == 10000.0
    sizes = model.heads.box_heads[0].layers[-1]
    assert sizes.out_features == 4
    initial = loaded(name).model.heads.initial_size_logit
    assert initial == (-2.0 if which == "dab_deformable" else 0.0)


@pytest.mark.parametrize("name", RECIPES)
def test_supervisions(name):
    model, which = model_of(name), family(name)
    one_to_one = model.supervisions["one_to_one"]
    costs = {key: cost.weight for key, cost in one_to_one.assigner.costs.costs.items()}
    assert costs == {"class": 2.0, "l1": 5.0, "giou": 2.0}
    mixed = name.startswith("ms_detr")
    published = {"conditional": 2.0, "dab": 1.0, "dab_deformable": 1.0}[which]
    weights = {key: term.weight for key, term in one_to_one.terms}
    assert weights == {"class": 1.0 if mixed else published, "l1": 5.0, "giou": 2.0}
    assert set(model.supervisions) == {"one_to_one", *(["mixed"] if mixed else [])}
    if mixed:
        supervision = model.supervisions["mixed"]
        assert supervision.tap == "internal"
        assert class_of(supervision.branch) == "LayerwiseFeedForward"
        assert len(supervision.branch.layers) == 6


@pytest.mark.parametrize("name", RECIPES)
def test_rates(name):
    cfg = copy.deepcopy(loaded(name))
    model = cfg.optimizer.params.model = model_of(name)
    optimizer = instantiate(cfg.optimizer)
    rates = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    for key, parameter in model.named_parameters():
        if parameter.requires_grad:
            wanted = 1e-5 if key.startswith("backbone.") else 1e-4
            assert math.isclose(rates.pop(id(parameter)), wanted), key
        else:
            assert key.startswith(("backbone.stem", "backbone.res2")), key
    assert not rates
    assert all(group["weight_decay"] == 1e-4 for group in optimizer.param_groups)
    assert cfg.train.clip_grad.max_norm == 0.1
