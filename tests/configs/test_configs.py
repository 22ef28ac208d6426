"""Every experiment config: complete, trains a step, detects; and holds the published values."""

from __future__ import annotations

import copy
import math
import re
from functools import cache

import pytest
import torch
from detectron2.config import instantiate
from detectron2.structures import Instances
from small_models import CONFIGS, item, load, shrink

from ms_detr.config import iterate_nodes
from ms_detr.engine import check_values, freeze_parts


def files(*folders: str) -> list[str]:
    paths = [path for folder in folders for path in (CONFIGS / folder).glob("*.py")]
    return sorted(str(path.relative_to(CONFIGS)) for path in paths)


RECIPES = files("ms_detr", "baselines", "variants", "comparators", "combined", "collaborative")
# Their published values are in test_single_scale.py, test_methods.py and test_collaborative.py.
_elsewhere = "conditional|dab|comparators|combined|collaborative"
OTHERS = [name for name in RECIPES if re.search(_elsewhere, name)]
MASKS = files("mask")
LVIS = files("lvis")
EXPERIMENTS = RECIPES + MASKS + LVIS + files("demo", "custom")
DROPS = {12: 11, 24: 20, 36: 30, 50: 40}  # epochs of a training: epochs before the rate drops


@cache
def loaded(name: str):
    """A config that no test may change."""
    cfg = load(name)
    if "custom" in name:
        cfg.model.heads.num_classes = 5  # otherwise counted in the user's json
    if "mask_head_r50" in name:
        cfg.train.init_checkpoint = "detector.pth"  # otherwise named by the user
    return cfg


def epochs_of(name: str) -> int:
    return int(re.search(r"_(\d+)ep\.py", name)[1])


def test_every_experiment_is_found():
    assert len(RECIPES) >= 118 and len(EXPERIMENTS) >= 130 and len(OTHERS) >= 84
    assert {epochs_of(name) for name in RECIPES} == set(DROPS)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_values_make_sense_and_references_resolve(name):
    cfg = loaded(name)
    check_values(cfg)
    for key, node in iterate_nodes(cfg.model):
        if node._is_interpolation():
            assert node._dereference_node() is not None, key
    missing = {"model", "dataloader", "optimizer", "lr_multiplier", "train"} - set(cfg)
    assert not missing


@pytest.mark.parametrize("name", files("demo", "custom"))
def test_rate_falls_before_the_training_ends(name):
    scheduler = instantiate(loaded(name).lr_multiplier)
    assert scheduler(1 - 1e-6) <= 0.1 * scheduler(0.5)


@pytest.mark.parametrize("name", RECIPES)
def test_schedule_is_the_published_one(name):
    """16 of 118287 images an iteration; the drop comes with the first iteration of its epoch."""
    cfg, epochs = loaded(name), epochs_of(name)
    per_epoch = math.ceil(118287 / 16)
    steps, drop = epochs * per_epoch, DROPS[epochs] * per_epoch
    assert cfg.train.max_iter == steps and cfg.dataloader.train.total_batch_size == 16
    scheduler = instantiate(cfg.lr_multiplier)
    around = [scheduler(step / steps) for step in (0, drop - 1, drop, drop + 1, steps - 1)]
    assert around == pytest.approx([1.0, 1.0, 0.1, 0.1, 0.1])


def train_and_detect(node, counts, freeze=()) -> None:
    """A step gives every parameter a finite gradient; detections have the shape they should."""
    torch.manual_seed(0)
    model = instantiate(node)
    freeze_parts(model, freeze)
    batch = [item(64, 80 - 8 * i, n, seed=i) for i, n in enumerate(counts)]
    sum(model(batch).values()).backward()
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            assert freeze, name
            continue
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    model.eval()
    with torch.no_grad():
        results = model(batch)
    for image, result in zip(batch, results):
        found = result["instances"]
        assert isinstance(found, Instances)
        assert found.image_size == tuple(image["image"].shape[1:])
        assert len(found.scores) == len(found.pred_boxes) == len(found.pred_classes) > 0
        assert ((found.scores >= 0) & (found.scores <= 1)).all()
        assert found.has("pred_masks") == (model.mask_head is not None)
        if found.has("pred_masks"):
            assert found.pred_masks.shape == (len(found), *found.image_size)
            assert found.pred_masks.dtype == torch.bool


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_shrunken_model_trains_and_detects(name):
    cfg = loaded(name)
    train_and_detect(shrink(cfg.model), (2, 1), cfg.train.freeze)


@pytest.mark.parametrize("name", files("models"))
def test_batch_without_objects(name):
    train_and_detect(shrink(loaded(name).model), (0, 0))


@pytest.mark.parametrize(
    "name", ["ms_detr_one_stage", "ms_detr_a", "ms_detr_small", "ms_detr_dab_r50"]
)
def test_optimizer_covers_every_trained_parameter_once(name):
    optimizer = copy.deepcopy(loaded("common/optim.py").AdamW)
    model = instantiate(shrink(loaded(f"models/{name}.py").model))
    optimizer.params.model = model
    groups = instantiate(optimizer).param_groups
    ids = [id(p) for group in groups for p in group["params"]]
    assert len(ids) == len(set(ids))
    assert set(ids) == {id(p) for p in model.parameters() if p.requires_grad}


@pytest.mark.parametrize("name", sorted(set(RECIPES) - set(OTHERS)))
def test_recipe_is_what_its_name_says(name):
    """The whole model, without memory for its weights, against the published values."""
    cfg = loaded(name)
    with torch.device("meta"):
        model = instantiate(cfg.model)
    queries = int(re.search(r"_(\d+)q_", name)[1])
    assert cfg.model.queries.num_queries == queries
    assert model.postprocess.num_detections == {300: 100, 900: 300}[queries]
    dropouts = {m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)}
    assert dropouts == {0.0 if "_pp_" in name else 0.1}
    assert len(model.encoder.layers) == len(model.decoder.layers) == 6
    assert model.encoder.layers[0].feed_forward.linear1.out_features == 2048
    assert model.neck.projections[0][0].out_channels == 256
    assert model.heads.num_classes == 80
    kind = "mixed" if "_pp_" in name else "one_stage" if "one_stage" in name else "two_stage"
    query_classes = {"mixed": "MixedSelectionQueries", "one_stage": "LearnedQueries"}
    assert type(model.queries).__name__ == query_classes.get(kind, "TwoStageQueries")
    refinement = "FixedReference" if "fixed" in name else "DetachedRefinement"
    refinement = "LookForwardTwice" if kind == "mixed" else refinement
    assert type(model.decoder.refinement).__name__ == refinement
    assert len(model.heads.class_heads) == (1 if "fixed" in name else 6)

    one_to_one = model.supervisions["one_to_one"]
    costs = {key: cost.weight for key, cost in one_to_one.assigner.costs.costs.items()}
    assert costs == {"class": 2.0, "l1": 5.0, "giou": 2.0}
    mixed = "/ms_detr" in name
    wanted = {"class": 1.0 if mixed else 2.0, "l1": 5.0, "giou": 2.0}
    assert {key: term.weight for key, term in one_to_one.terms} == wanted
    assert ("mixed" in model.supervisions) == mixed
    assert ("proposals" in model.supervisions) == (kind != "one_stage")
    assert cfg.train.clip_grad.max_norm == 0.1
    if mixed:
        check_mixed(model, name)
    else:
        assert type(model.decoder.layers[0]).__name__ == "SelfCrossLayer"


LAYER_AND_TAP = {
    "a": ("SelfCrossLayer", "output"),
    "b": ("CrossSelfLayer", "output"),
    "c": ("CrossSelfLayer", "internal"),
    "d": ("SelfCrossLayer", "internal"),
}


def check_mixed(model, name: str) -> None:
    """The one-to-many supervision that the name of a recipe speaks of."""
    supervision = model.supervisions["mixed"]
    named = re.search(r"_([a-d])_", name)
    implementation = named[1] if named else "c"
    layer, tap = LAYER_AND_TAP[implementation]
    assert type(model.decoder.layers[0]).__name__ == layer and supervision.tap == tap
    has_branch = implementation in "cd" and "no_feed_forward" not in name
    assert (type(supervision.branch).__name__ == "LayerwiseFeedForward") == has_branch
    own = {"class": implementation in "ab" or "own_class" in name, "box": "own_box" in name}
    own = {kind: value or "own_heads" in name for kind, value in own.items()}
    assert (supervision.class_heads is not None) == own["class"]
    assert (supervision.box_heads is not None) == own["box"]
    assigners = {"best_object": "BestObjectTopKAssigner", "all_pairs": "AllPairsTopKAssigner"}
    merges = {"append": "AppendMissing", "override": "OverrideByOneToMany"}
    chosen = [value for key, value in assigners.items() if key in name]
    assert type(supervision.assigner).__name__ == (chosen or ["ReleasedTopKAssigner"])[0]
    chosen = [value for key, value in merges.items() if key in name]
    assert type(supervision.merge).__name__ == (chosen or ["NoneType"])[0]
    assigner = supervision.assigner
    assert (assigner.k, assigner.threshold, assigner.alpha) == (6, 0.4, 0.3)
    weights = {key: term.weight for key, term in supervision.terms}
    assert weights == {"class": 2.0, "l1": 5.0, "giou": 2.0}


def test_published_learning_rates():
    cfg = copy.deepcopy(loaded("ms_detr/ms_detr_r50_300q_12ep.py"))
    with torch.device("meta"):
        model = instantiate(cfg.model)
    cfg.optimizer.params.model = model
    optimizer = instantiate(cfg.optimizer)
    rates = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            assert name.startswith(("backbone.stem", "backbone.res2")), name
            continue
        slow = name.startswith("backbone.") or "sampling_offsets" in name
        assert math.isclose(rates[id(parameter)], 2e-5 if slow else 2e-4), name
    assert all(group["weight_decay"] == 1e-4 for group in optimizer.param_groups)
