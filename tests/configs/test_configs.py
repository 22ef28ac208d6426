"""Every experiment config: complete, trains a step, detects; and holds the published values."""

from __future__ import annotations

import math

import pytest
import torch
from detectron2.config import instantiate
from detectron2.structures import Instances
from small_models import CONFIGS, item, load, shrink

from ms_detr.config import iterate_nodes
from ms_detr.engine import check_values

EXPERIMENTS = sorted(
    str(path.relative_to(CONFIGS))
    for folder in ("ms_detr", "baselines", "demo", "custom")
    for path in (CONFIGS / folder).glob("*.py")
)


@pytest.fixture(params=EXPERIMENTS)
def config(request):
    cfg = load(request.param)
    if "custom" in request.param:
        cfg.model.heads.num_classes = 5  # otherwise counted in the user's json
    return cfg


def test_every_experiment_is_listed():
    assert len(EXPERIMENTS) >= 11


def test_values_make_sense_and_references_resolve(config):
    check_values(config)
    for key, node in iterate_nodes(config.model):
        if node._is_interpolation():
            assert node._dereference_node() is not None, key
    missing = {"model", "dataloader", "optimizer", "lr_multiplier", "train"} - set(config)
    assert not missing


def test_schedule_ends_with_the_training(config):
    scheduler = instantiate(config.lr_multiplier)
    assert scheduler(1 - 1e-6) <= 0.1 * scheduler(0.5)


@pytest.mark.parametrize("counts", [(2, 1), (0, 0)])
def test_shrunken_model_trains_and_detects(config, counts):
    torch.manual_seed(0)
    model = instantiate(shrink(config.model))
    batch = [item(64, 80 - 8 * i, n, seed=i) for i, n in enumerate(counts)]
    sum(model(batch).values()).backward()
    for name, parameter in model.named_parameters():
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


def test_optimizer_covers_every_trained_parameter_once(config):
    model = instantiate(shrink(config.model))
    config.optimizer.params.model = model
    groups = instantiate(config.optimizer).param_groups
    ids = [id(p) for group in groups for p in group["params"]]
    assert len(ids) == len(set(ids))
    assert set(ids) == {id(p) for p in model.parameters() if p.requires_grad}


PUBLISHED = {
    "ms_detr/ms_detr_r50_300q_12ep.py": (300, 100, 0.1, 1.0),
    "ms_detr/ms_detr_pp_r50_300q_12ep.py": (300, 100, 0.0, 1.0),
    "ms_detr/ms_detr_pp_r50_900q_12ep.py": (900, 300, 0.0, 1.0),
    "baselines/deformable_detr_r50_300q_12ep.py": (300, 100, 0.1, 2.0),
    "baselines/deformable_detr_pp_r50_300q_12ep.py": (300, 100, 0.0, 2.0),
    "baselines/deformable_detr_pp_r50_900q_12ep.py": (900, 300, 0.0, 2.0),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_recipe(name):
    queries, detections, dropout, class_weight = PUBLISHED[name]
    cfg = load(name)
    model = instantiate(cfg.model)
    assert model.queries.num_queries == queries
    assert model.postprocess.num_detections == detections
    assert {m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)} == {dropout}
    assert len(model.encoder.layers) == len(model.decoder.layers) == 6
    assert model.encoder.layers[0].feed_forward.linear1.out_features == 2048
    assert model.neck.projections[0][0].out_channels == 256
    assert model.heads.num_classes == 80
    one_to_one = model.supervisions["one_to_one"]
    weights = {key: term.weight for key, term in one_to_one.terms}
    assert weights == {"class": class_weight, "l1": 5.0, "giou": 2.0}
    costs = {key: cost.weight for key, cost in one_to_one.assigner.costs.costs.items()}
    assert costs == {"class": 2.0, "l1": 5.0, "giou": 2.0}
    mixed = name.startswith("ms_detr")
    assert ("mixed" in model.supervisions) == mixed
    assert (type(model.decoder.layers[0]).__name__ == "CrossSelfLayer") == mixed
    if mixed:
        assigner = model.supervisions["mixed"].assigner
        assert (assigner.k, assigner.threshold, assigner.alpha) == (6, 0.4, 0.3)
        weights = {key: term.weight for key, term in model.supervisions["mixed"].terms}
        assert weights == {"class": 2.0, "l1": 5.0, "giou": 2.0}
    pp = "_pp_" in name
    assert (type(model.decoder.refinement).__name__ == "LookForwardTwice") == pp
    assert (type(model.queries).__name__ == "MixedSelectionQueries") == pp
    assert cfg.train.max_iter == 12 * 7393 and cfg.train.clip_grad.max_norm == 0.1
    assert cfg.dataloader.train.total_batch_size == 16
    schedule = instantiate(cfg.lr_multiplier)
    assert schedule(11 / 12 - 1e-4) == 1.0 and schedule(11 / 12 + 1e-4) == pytest.approx(0.1)


def test_published_learning_rates():
    cfg = load("ms_detr/ms_detr_r50_300q_12ep.py")
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
