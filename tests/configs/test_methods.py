"""Recipes with more queries than the primary ones hold the values of their publications."""

from __future__ import annotations

import re
from functools import cache

import pytest
import torch
from detectron2.config import instantiate
from small_models import CONFIGS, load

from ms_detr.queries import EmbeddedQueries
from ms_detr.structures.query_groups import PRIMARY

RECIPES = sorted(
    str(path.relative_to(CONFIGS))
    for folder in ("comparators", "combined")
    for path in (CONFIGS / folder).glob("*.py")
)
# What a part of a name stands for: names of the supervisions that the method adds.
METHODS = {
    "ms": {"mixed"},
    "group": {"group"},
    "h": {"hybrid"},
    "hybrid": {"hybrid"},
    "dn": {"denoising"},
    "cdn": {"denoising"},
    "dino": {"denoising"},
    "co": {"adapter"},
    "atss": {"atss"},
    "rcnn": {"faster_rcnn"},
}


@cache
def model_of(name: str):
    """The whole model, without memory for its weights."""
    with torch.device("meta"):
        return instantiate(load(name).model)


def words(name: str) -> list[str]:
    return name.partition("/")[2].partition("_r50")[0].split("_")


def class_of(part) -> str:
    return type(part).__name__


def recipes_with(*parts: str) -> list[str]:
    return [name for name in RECIPES if set(parts) & set(words(name))]


def test_recipes_are_found():
    assert len(RECIPES) >= 43 and all(set(words(name)) & set(METHODS) for name in RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_supervisions_are_those_of_the_name(name):
    model = model_of(name)
    wanted = {"one_to_one"}.union(*(METHODS.get(word, set()) for word in words(name)))
    two_stage = "proposals" in dir(model.queries)
    wanted |= {"proposals"} if two_stage else set()
    wanted |= {"group_proposals"} if two_stage and "group" in words(name) else set()
    assert set(model.supervisions) == wanted
    queries = int(re.search(r"_(\d+)q_", name)[1])
    assert load(name).model.queries.num_queries == queries
    assert model.postprocess.num_detections in ({100, 300} if queries == 300 else {300})
    order = "CrossSelf" if "ms" in words(name) else "SelfCross"
    assert {class_of(layer).removeprefix("Conditional") for layer in model.decoder.layers} == {
        f"{order}Layer"
    }


@pytest.mark.parametrize("name", recipes_with("group"))
def test_group_detr(name):
    supervisions = model_of(name).supervisions
    group, one_to_one = supervisions["group"], supervisions["one_to_one"]
    assert class_of(group.assigner) == "BlockwiseAssigner"
    assert class_of(group.assigner.assigner) == "HungarianAssigner"
    queries = model_of(name).queries
    if isinstance(queries, EmbeddedQueries):
        sizes = [tuple(own.weight.shape) for own in group.source.embeddings]
        assert sizes == [tuple(queries.embedding.weight.shape)] * 10
    else:
        assert len(group.source.initializers) == 10
        assert {type(own) for own in group.source.initializers} == {type(queries)}
    assert one_to_one.weight == pytest.approx(1 / 11) and group.weight == pytest.approx(10 / 11)
    assert weights(group) == weights(one_to_one)
    if "proposals" in supervisions:
        others = supervisions["group_proposals"]
        assert supervisions.group_of("group_proposals") == "group"
        assert type(others) is type(supervisions["proposals"])
        assert (supervisions["proposals"].weight, others.weight) == (1 / 11, 10 / 11)


@pytest.mark.parametrize("name", recipes_with("h", "hybrid"))
def test_h_detr(name):
    model = model_of(name)
    hybrid = model.supervisions["hybrid"]
    mixed_selection = "pp" in words(name)
    assert class_of(hybrid.source) == ("NextMixedProposals" if mixed_selection else "NextProposals")
    assert hybrid.source.num_queries == 1500 and hybrid.weight == 1.0
    assert class_of(hybrid.assigner) == "RepeatingAssigner" and hybrid.assigner.repeats == 6
    assert weights(hybrid) == weights(model.supervisions["one_to_one"])


@pytest.mark.parametrize("name", recipes_with("dn"))
def test_dn_detr(name):
    supervision = model_of(name).supervisions["denoising"]
    source = supervision.source
    assert class_of(source) == "NoisedBoxes" and supervision.assigner is None
    assert source.num_groups == (10 if "dab_deformable" in name else 5)
    assert (source.box_noise, source.flip_probability) == (0.4, 0.2)
    assert weights(supervision) == weights(model_of(name).supervisions["one_to_one"])


@pytest.mark.parametrize("name", recipes_with("cdn", "dino"))
def test_contrastive_denoising(name):
    source = model_of(name).supervisions["denoising"].source
    assert class_of(source) == "ContrastiveNoisedBoxes"
    assert (source.num_pairs, source.box_noise, source.flip_probability) == (100, 1.0, 0.25)
    assert tuple(source.labels.weight.shape) == (80, 256)


@pytest.mark.parametrize("name", recipes_with("dino"))
def test_dino(name):
    model, cfg = model_of(name), load(name)
    parts = (model.queries, model.decoder.position, model.decoder.refinement, model.heads)
    assert tuple(map(class_of, parts)) == (
        "DINOQueries",
        "ReferencePosition",
        "LookForwardTwice",
        "NormalizedPredictionHeads",
    )
    assert class_of(model.encoder.position) == "CornerSinePosition"
    assert model.encoder.position.temperature == 20.0
    assert cfg.model.encoder.dropout == 0.0 and cfg.model.encoder.feedforward_dim == 2048
    levels = 5 if "5scale" in name else 4
    assert len(model.encoder.level_embed) == levels
    assert len(model.neck.projections) == levels - 1 and len(model.neck.extra_levels) == 1
    proposals = model.supervisions["proposals"]
    assert class_of(proposals) == "ChosenProposalSupervision"
    assert class_of(proposals.assigner) == "HungarianAssigner"
    assert {term: cost.weight for term, cost in proposals.assigner.costs.costs.items()} == {
        "class": 2.0,
        "l1": 5.0,
        "giou": 2.0,
    }
    for supervision in ("one_to_one", "proposals", "denoising"):
        wanted = {"class": 1.0, "l1": 5.0, "giou": 2.0}
        assert weights(model.supervisions[supervision]) == wanted
    assert cfg.optimizer.lr == (2e-4 if "co" in words(name) else 1e-4)  # as their authors had it


@pytest.mark.parametrize("name", recipes_with("ms"))
def test_mixed_supervision_is_that_of_the_primary_queries(name):
    supervisions = model_of(name).supervisions
    assert supervisions.group_of("mixed") == PRIMARY
    assert supervisions["mixed"].tap == "internal" and supervisions["mixed"].weight == 1.0
    assert weights(supervisions["mixed"]) == {"class": 2.0, "l1": 5.0, "giou": 2.0}


def weights(supervision) -> dict[str, float]:
    return {term: loss.weight for term, loss in supervision.terms}
