"""Models and recipes with auxiliary heads: the values of paper and released configs, nothing else.

That they train is in test_configs.py, that each value counts in test_collaborative_knobs.py.
"""

from __future__ import annotations

import re
from functools import cache

import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import LazyConfig, instantiate
from omegaconf import OmegaConf
from small_models import CONFIGS, load

from ms_detr.supervision.auxiliary import CoarserLevel

HEADS = {
    "atss": "ATSSHead",
    "faster_rcnn": "FasterRCNNHead",
    "paa": "PAAHead",
    "retinanet": "RetinaNetHead",
    "fcos": "FCOSHead",
    "gfl": "GFLHead",
}
# What the name of a recipe says, and of the entry.
WORDS = {"atss": "atss", "rcnn": "faster_rcnn", **{name: name for name in HEADS}}
RECIPES = sorted(
    str(path.relative_to(CONFIGS))
    for pattern in ("collaborative/*.py", "combined/*_co_*.py")
    for path in CONFIGS.glob(pattern)
)
MODELS = sorted(path.stem for path in (CONFIGS / "models").glob("*co_*.py"))
MODELS.remove("ms_co_small")
BASES = {
    "co_deformable_detr": "baselines/deformable_detr_one_stage_fixed_r50_300q_{}ep.py",
    "co_deformable_detr_two_stage": "baselines/deformable_detr_r50_300q_{}ep.py",
    "co_deformable_detr_pp": "baselines/deformable_detr_pp_r50_{}q_{}ep.py",
    "co_conditional_detr": "baselines/conditional_detr_r50_300q_{}ep.py",
    "co_dab_detr": "baselines/dab_detr_r50_300q_{}ep.py",
    "co_dino_4scale": "comparators/dino_4scale_r50_900q_{}ep.py",
    "co_dino_5scale": "comparators/dino_5scale_r50_900q_{}ep.py",
}


@cache
def loaded(name: str):
    """A config that no test may change."""
    return load(name)


@cache
def added(name: str = "add_collaborative"):
    return LazyConfig.load(str(CONFIGS / "common/supervision/collaborative.py"), name)


def words(name: str) -> list[str]:
    return name.partition("/")[2].partition("_r50")[0].split("_")


def entries(model) -> dict:
    """The supervisions with an auxiliary head."""
    return {
        name: node
        for name, node in model.supervisions.items()
        if OmegaConf.is_config(node) and "head" in (node.get("source") or {})
    }


def class_of(node) -> str:
    return node._target_.__name__


def test_recipes_are_found():
    assert len(RECIPES) >= 39 and len(MODELS) == 12
    assert sum(name.startswith("collaborative") for name in RECIPES) >= 29


@pytest.mark.parametrize("name", RECIPES)
def test_heads_are_those_of_the_name(name):
    found = entries(loaded(name).model)
    if "six" in words(name) and "times" not in words(name):
        assert set(found) == set(HEADS)
    elif {"twice", "times"} & set(words(name)):
        heads = [class_of(entry.source.head) for entry in found.values()]
        assert heads == ["ATSSHead"] * (2 if "twice" in words(name) else 6)
        return
    else:
        assert set(found) == {WORDS[word] for word in words(name) if word in WORDS}
    assert {name: class_of(entry.source.head) for name, entry in found.items()} == {
        name: HEADS[name] for name in found
    }


@pytest.mark.parametrize("name", [*RECIPES, *(f"models/{name}.py" for name in MODELS)])
def test_queries_are_taught_what_primary_ones_are(name):
    model = loaded(name).model
    for entry in entries(model).values():
        assert entry.terms == model.supervisions.one_to_one.terms
        assert entry.assigner is None and entry.weight == 1.0 and entry.tap == "output"
        source = entry.source
        assert (source.weight, source.num_layers) == (2.0, 6)
        released = "positives" not in words(name)
        assert class_of(source.selection) == ("FilledPositives" if released else "PositivesOnly")
        assert source.selection.most == 300 and source.selection.get("least", 9) == 9
        # The released Co-DINO makes contents of boxes alone, and leaves positions to the decoder.
        dino, dab = "dino" in name, "dab" in name
        assert (source.features is None) == dino
        assert class_of(source.boxes) == (
            "BoxEmbedding" if dino or dab else "PositionedBoxEmbedding"
        )


@pytest.mark.parametrize("name", [*RECIPES, *(f"models/{name}.py" for name in MODELS)])
def test_maps_begin_where_the_paper_has_them(name):
    adapter = loaded(name).model.supervisions.adapter
    single = "conditional" in name or "dab" in name
    assert class_of(adapter) == ("PyramidOfOneLevel" if single else "CoarserLevel")
    assert adapter.strides == [4] * ("5scale" in name) + [8, 16, 32, 64, 128]
    assert adapter.get("memory_stride") == (32 if single else None)
    assert (adapter.embed_dim, adapter.num_groups) == (256, 32)
    for entry in entries(loaded(name).model).values():
        head = entry.source.head
        assert (head.num_classes, head.embed_dim) == (80, 256) and head.strides == adapter.strides
        if class_of(head) != "FasterRCNNHead":
            assert (head.num_convs, head.num_groups) == (1, 32)


@pytest.mark.parametrize("name", [name for name in RECIPES if name.startswith("collaborative")])
def test_without_heads_a_recipe_is_its_baseline(name):
    """Model, data, optimizer, schedule, run: all but what quality and jitter stand for."""
    cfg = load(name)
    base_name = max((base for base in BASES if base in name), key=len)
    queries, epochs = re.search(r"_(\d+)q_(\d+)ep", name).groups()
    template = BASES[base_name]
    numbers = (queries, epochs) if template.count("{}") == 2 else (epochs,)
    base = loaded(template.format(*numbers))
    for entry in [*entries(cfg.model), "adapter"]:
        del cfg.model.supervisions[entry]
    cfg.train.output_dir = base.train.output_dir
    if "quality" in name:
        assert cfg.optimizer.lr == 2e-4 and base.optimizer.lr == 1e-4
        cfg.optimizer.lr = base.optimizer.lr
        for key, node in cfg.model.supervisions.items():
            if OmegaConf.is_config(node):
                node.terms["class"] = base.model.supervisions[key].terms["class"]
        cfg.model.postprocess = base.model.postprocess
    if "lsj" in name:
        for part in ("train", "test"):
            mapper = base.dataloader[part].mapper
            assert cfg.dataloader[part].mapper.augmentations != mapper.augmentations
            cfg.dataloader[part].mapper.augmentations = mapper.augmentations
    assert cfg == base


RELEASED = {
    "atss": {"class": 12, "giou": 24, "centerness": 12},
    "faster_rcnn": {"rpn": 12, "class": 12, "giou": 120},
}


def test_the_weights_of_the_released_configs():
    """lambda2 times six decoder layers times the weight of each loss."""
    found = entries(loaded("collaborative/co_deformable_detr_pp_atss_rcnn_r50_300q_12ep.py").model)
    weights = {}
    for name, entry in found.items():
        head, factor = entry.source.head, entry.source.weight * entry.source.num_layers
        keys = {"rpn": "proposal_weight", "giou": "box_weight"}
        weights[name] = {
            term: factor * head[keys.get(term, f"{term}_weight")] for term in RELEASED[name]
        }
    assert weights == RELEASED
    atss, rcnn = (found[name].source.head for name in RELEASED)
    assert (atss.top_k, atss.scale) == (9, 8.0)
    assert (rcnn.proposals, rcnn.samples, rcnn.positive_fraction) == (1000, 512, 0.25)


@pytest.mark.parametrize("name", [name for name in RECIPES if "dino" in name])
def test_quality(name):
    """Co-DINO of Table 4 has it throughout, that of Table 3 nowhere; mixed supervision never."""
    model = loaded(name).model
    quality = "quality" in name or "combined" in name
    for key, supervision in model.supervisions.items():
        if key in ("adapter", "_target_"):
            continue
        term = supervision.terms["class"]
        wanted = "QualityFocalLoss" if quality and key != "mixed" else "FocalLoss"
        assert class_of(term) == wanted, key
        if quality and key != "mixed":
            assert (term.weight, term.beta) == (1.0, 2.0)
    assert class_of(model.postprocess) == ("SoftNMSDetections" if quality else "TopKDetections")
    assert model.postprocess.num_detections == 300
    assert model.postprocess.get("iou_threshold", 0.8) == 0.8


def test_quality_leaves_the_clipping_of_a_small_model():
    model = load("models/ms_detr_small.py").model
    path = str(CONFIGS / "common/supervision/quality.py")
    LazyConfig.load(path, "add_quality")(model)
    assert class_of(model.postprocess) == "ClippedDetections"
    assert class_of(model.postprocess.detections) == "SoftNMSDetections"
    assert class_of(model.supervisions.one_to_one.terms["class"]) == "QualityFocalLoss"


@pytest.mark.parametrize("name", MODELS)
def test_whole_models_can_be_built(name):
    """With all channels, without memory for the weights."""
    with torch.device("meta"):
        model = instantiate(loaded(f"models/{name}.py").model)
    assert ("mixed" in model.supervisions) == name.startswith("ms_")
    assert {"atss", "faster_rcnn", "adapter"} <= set(model.supervisions)
    levels = {"dino_5scale": 5, "conditional": 1, "dab": 1}
    wanted = next((count for key, count in levels.items() if key in name), 4)
    assert len(model.supervisions.adapter.memory_strides) == wanted


def test_what_cannot_be_added_is_named():
    model = load("models/deformable_detr_pp.py").model
    with pytest.raises(ValueError, match="heads are atss, .*gfl; got mask_rcnn"):
        added()(model, "atss", "mask_rcnn")
    with pytest.raises(ValueError, match="got none"):
        added()(model)
    assert "adapter" not in model.supervisions


@pytest.mark.parametrize(
    "key, value, words",
    [
        ("atss.source.head.embed_dim", 128, "atss.source.head.embed_dim is 128, .*have 256 chan"),
        ("faster_rcnn.source.head.embed_dim", 64, "faster_rcnn.source.head.embed_dim is 64, but"),
        ("adapter.num_groups", 7, "adapter is 7, which does not divide its embed_dim, 256"),
        ("atss.source.head.num_groups", 0, "num_groups of an auxiliary head must be a whole"),
        ("atss.source.head.num_groups", 48, "auxiliary head is 48, which does not divide"),
    ],
)
def test_widths_fit_each_other(key, value, words):
    model = load("models/co_deformable_detr_pp.py").model
    OmegaConf.update(model.supervisions, key, value)
    with pytest.raises(ValueError, match=words), torch.device("meta"):
        instantiate(model)


def test_every_head_has_a_function_of_its_own():
    for name, head in HEADS.items():
        model = load("models/deformable_detr_pp.py").model
        added(f"add_{name}")(model)
        assert {key: class_of(entry.source.head) for key, entry in entries(model).items()} == {
            name: head
        }


def test_an_adapter_that_is_there_stays():
    """Strides of maps with other names than a ResNet's are given with one."""
    model = load("models/deformable_detr_pp.py").model
    model.neck.in_channels = {"p3": 512, "p4": 1024, "p5": 2048}
    with pytest.raises(ValueError, match="stride of map 'p3' is not known; .*adapter first"):
        added()(model, "atss")
    own = L(CoarserLevel)(embed_dim=256, strides=[8, 16, 32, 64, 128], num_groups=16)
    model.supervisions.adapter = own
    added()(model, "atss")
    assert model.supervisions.adapter.num_groups == 16
    assert model.supervisions.atss.source.head.num_groups == 16


def test_heads_of_two_models_are_not_the_same():
    """What is edited in one model is not edited in another, nor in another head."""
    one, other = (load("models/co_deformable_detr_pp.py").model for _ in range(2))
    add = added()
    add(one, "paa")
    one.supervisions.paa.source.head.top_k = 3
    add(other, "paa")
    assert other.supervisions.paa.source.head.top_k == 9
