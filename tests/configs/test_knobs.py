"""Every knob of the model of a recipe changes something when it is turned.

A copy of the recipe's model with few channels, layers and queries is built and trained a step for
every value in the config, with that value changed. Names, shapes and trained state of the
parameters must differ then, or losses, gradients or detections; or, where a value has to agree with
another one, the model refuses. Nothing is excepted: a value that nobody reads fails.
"""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import LazyConfig, instantiate
from detectron2.structures import Boxes, Instances
from knobs import Built, Other, get, is_reference, knobs, put, target_name, turned
from small_models import CONFIGS, load, shrink

from ms_detr.assigners import AppendMissing, GIoUCost, L1Cost
from ms_detr.decoder import LookForwardTwice, SelfCrossLayer
from ms_detr.losses import GIoULoss, L1Loss
from ms_detr.queries import MixedSelectionQueries
from ms_detr.supervision import PredictedProposalSupervision

RECIPE = load("ms_detr/ms_detr_r50_300q_12ep.py").model
# Classes with another one of the same arguments; the others are turned to one that reports itself.
ALTERNATIVES = {
    "CrossSelfLayer": SelfCrossLayer,
    "DetachedRefinement": LookForwardTwice,
    "TwoStageQueries": MixedSelectionQueries,
    "ProposalSupervision": PredictedProposalSupervision,
    "L1Cost": GIoUCost,
    "GIoUCost": L1Cost,
    "L1Loss": GIoULoss,
    "GIoULoss": L1Loss,
}
# Values that cannot just be a little larger: they divide another one, or must turn a choice.
TURNED = {
    "neck.embed_dim": 64,
    "neck.num_groups": 4,
    "encoder.num_heads": 2,
    "decoder.layer.num_heads": 2,
    "encoder.dropout": 0.4,
    "supervisions.mixed.assigner.k": 2,
    "supervisions.mixed.assigner.positive_fraction": 0.03,
}


def choices(key: str) -> Any:
    """What knobs that hold a name, or nothing, are turned to."""
    mixed = str(CONFIGS / "common/supervision/mixed.py")
    if key.endswith(("class_heads", "box_heads")):
        return LazyConfig.load(mixed, f"own_{key.rpartition('.')[2]}")
    return {
        "supervisions.mixed.merge": L(AppendMissing)(source="one_to_one"),
        "supervisions.mixed.tap": "output",
        "supervisions.one_to_one.tap": "internal",
        "backbone.stem.norm": "BN",
        "backbone.stages.norm": "BN",
        "backbone.stages.depth": 101,
        "backbone.out_features.0": "res2",
        "backbone.out_features.1": "res2",
        "backbone.out_features.2": "res2",
    }.get(key)


def other_value(key: str, value: Any) -> Any:
    if key.endswith("_target_"):
        return ALTERNATIVES.get(target_name(value), Other)
    if ".costs." in key:
        return 1000 * value  # so that other pairs become the cheapest
    chosen = choices(key)
    if chosen is not None:
        return chosen
    return TURNED[key] if key in TURNED else turned(value)


@cache
def small_model(real_backbone: bool):
    """The recipe with few channels, and boxes that overlap, so that assigners have a choice."""
    model = shrink(RECIPE)
    if real_backbone:
        model.backbone, model.neck.in_channels = RECIPE.backbone, RECIPE.neck.in_channels
    model.queries.num_queries = 100
    model.queries.proposals.anchor_size = 0.4
    model.supervisions.mixed.assigner.threshold = 0.2
    return model


def of_backbone(key: str) -> bool:
    return key.startswith(("backbone.", "neck.in_channels"))


def batch() -> list[dict]:
    items = []
    for seed, (height, width) in enumerate([(64, 80), (56, 64)]):
        generator = torch.Generator().manual_seed(seed)
        image = torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)
        # Long thin objects: a small anchor is closer to them, a large one overlaps them better.
        boxes = [[0.1, 0.1, 0.4, 0.4], [0.5, 0.15, 0.35, 0.4], [0.3, 0.5, 0.4, 0.45]]
        boxes += [[0.105, 0.45, 0.79, 0.1], [0.45, 0.15, 0.1, 0.7]]
        corner, size = torch.tensor(boxes).split(2, 1)
        corners = torch.cat([corner, corner + size], 1) * torch.tensor([width, height] * 2)
        instances = Instances((height, width), gt_boxes=Boxes(corners))
        instances.gt_classes = torch.arange(5)
        items.append({"image": image, "instances": instances})
    return items


def shape(node) -> dict:
    """What the parameters look like, without making them."""
    with torch.device("meta"):
        state = instantiate(node).state_dict(keep_vars=True)
    return {name: (tuple(value.shape), value.requires_grad) for name, value in state.items()}


def behaviour(node) -> dict[str, torch.Tensor]:
    """Losses, gradients and detections of the first step."""
    torch.manual_seed(0)
    model = instantiate(node)
    torch.manual_seed(1)
    losses = model(batch())
    sum(losses.values()).backward()
    seen = {f"loss {name}": loss.detach() for name, loss in losses.items()}
    seen |= {f"gradient of {n}": p.grad for n, p in model.named_parameters() if p.requires_grad}
    model.eval()
    with torch.no_grad():
        for image, result in enumerate(model(batch())):
            found = result["instances"]
            seen |= {f"boxes {image}": found.pred_boxes.tensor, f"scores {image}": found.scores}
    return seen


@cache
def before(look, real_backbone: bool) -> dict:
    return look(small_model(real_backbone))


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def what_changes(key: str, node) -> str:
    """How a turned knob shows, or "" if it does not."""
    if shape(node) != before(shape, of_backbone(key)):
        return "shape"
    return "" if same(behaviour(node), before(behaviour, of_backbone(key))) else "behaviour"


def must_agree(key: str) -> bool:
    """Whether a value has to fit another one: the channels of maps, or what it refers to."""
    names = ("neck.in_channels", "backbone.out_features", "backbone.stem.")
    return key.startswith(names) or is_reference(RECIPE, key)


def test_nothing_changes_by_itself():
    for real_backbone in (False, True):
        again = behaviour(small_model(real_backbone))
        assert same(again, before(behaviour, real_backbone))
        assert all(torch.isfinite(value).all() for value in again.values())


@pytest.mark.parametrize("key", knobs(RECIPE))
def test_knob_of_the_model(key):
    node = copy.deepcopy(small_model(of_backbone(key)))
    put(node, key, other_value(key, get(node, key)))
    try:
        change = what_changes(key, node)
    except Built:
        assert key.endswith("_target_")
    except (RuntimeError, ValueError, KeyError, AssertionError) as error:
        assert must_agree(key), (key, error)
    else:
        assert change, f"{key} changes nothing: nobody reads it"


def test_a_dead_knob_is_found():
    node = copy.deepcopy(small_model(False))
    node.supervisions.mixed.terms.l1.weight = 5.0  # what it is already
    assert what_changes("supervisions.mixed.terms.l1.weight", node) == ""
