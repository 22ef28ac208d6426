"""Names of both sides: round trips, models that load, duplicates, keys left over or missing."""

from __future__ import annotations

import json
import re

import pytest
import torch
from official_states import MODELS, official, ours, same
from small_models import CONFIGS, build

from ms_detr.convert import CheckpointError, KeysError, Layout, to_official, to_ours
from ms_detr.convert.layout import Side
from ms_detr.convert.recipes import check_fits


@pytest.mark.parametrize("config", MODELS)
def test_official_to_ours_and_back_is_the_identity(config):
    state = official(config)
    converted = to_ours(state, family=MODELS[config])
    assert same(to_official(converted.state, converted.extras).state, state)


@pytest.mark.parametrize("config", MODELS)
@pytest.mark.parametrize("num_classes", [80, 5])
def test_ours_to_official_and_back_is_the_identity(config, num_classes):
    state = ours(config, num_classes)
    family = MODELS[config]
    there = to_official(state, family=family)
    assert same(to_ours(there.state, family=family).state, state)


@pytest.mark.parametrize("config", MODELS)
def test_converted_state_loads_strictly(config):
    model = build(config, num_classes=80)
    converted = to_ours(official(config), family=MODELS[config])
    model.load_state_dict(converted.state, strict=True)


def test_official_names():
    """Spot checks by hand, for the round trips hold for any table."""
    state = official("models/ms_detr.py")
    found = to_ours(state, classes="keep").state
    for theirs, mine in {
        "backbone.0.body.conv1.weight": "backbone.stem.conv1.weight",
        "backbone.0.body.bn1.running_var": "backbone.stem.conv1.norm.running_var",
        "backbone.0.body.layer2.0.downsample.1.bias": "backbone.res3.0.shortcut.norm.bias",
        "input_proj.3.0.weight": "neck.extra_levels.0.0.weight",
        "transformer.decoder.layers.1.norm1.weight": "decoder.layers.1.cross_norm.weight",
        "transformer.decoder.layers.1.norm2.weight": "decoder.layers.1.self_norm.weight",
        "transformer.decoder.layers.0.linear3.bias": (
            "supervisions.mixed.branch.layers.0.linear1.bias"
        ),
        "transformer.pos_trans.weight": "queries.projection.weight",
        "class_embed.1.weight": "heads.class_heads.1.weight",
        "class_embed.2.weight": "queries.proposals.class_head.weight",
        "bbox_embed.2.layers.2.bias": "queries.proposals.box_head.layers.2.bias",
    }.items():
        assert torch.equal(state[theirs], found[mine]), theirs


@pytest.mark.parametrize(
    "config, expected",
    {
        "models/ms_detr_a.py": {"own_classes": True, "auxiliary": False, "two_stage": True},
        "models/ms_detr_pp.py": {"own_classes": False, "auxiliary": True, "learned_queries": True},
        "models/deformable_detr.py": {
            "auxiliary": False,
            "learned_queries": False,
            "refined": True,
        },
        "models/deformable_detr_one_stage.py": {"two_stage": False, "refined": True},
        "models/deformable_detr_one_stage_fixed.py": {"two_stage": False, "refined": False},
    }.items(),
)
def test_kind_of_model_is_read_from_keys(config, expected):
    layout = to_ours(official(config), family=MODELS[config]).layout
    assert {name: getattr(layout, name) for name in expected} == expected
    assert (layout.encoder_layers, layout.decoder_layers) == (2, 2)
    assert (layout.maps, layout.extra_levels) == (3, 1)


@pytest.mark.parametrize(
    "config, key, of",
    [
        ("models/ms_detr.py", "transformer.decoder.class_embed.1.bias", "class_embed.1.bias"),
        ("models/ms_detr.py", "transformer.decoder.bbox_embed.2.layers.0.weight", "bbox_embed.2."),
        ("models/ms_detr_a.py", "bbox_embed_o2m.0.layers.1.bias", "bbox_embed.0.layers.1.bias"),
        ("models/deformable_detr_one_stage_fixed.py", "class_embed.1.weight", "class_embed.0.weig"),
    ],
)
def test_duplicates_must_be_equal(config, key, of):
    state = official(config)
    state[key] = state[key].clone()
    to_ours(state, family=MODELS[config])
    state[key].view(-1)[3 % state[key].numel()] += 0.5
    with pytest.raises(
        CheckpointError, match=rf"{re.escape(key)} must be .* {re.escape(of)}.*0\.5"
    ):
        to_ours(state, family=MODELS[config])


def test_own_class_heads_are_no_duplicates():
    state = official("models/ms_detr_a.py")
    assert not torch.equal(state["class_embed_o2m.0.weight"], state["class_embed.0.weight"])


def test_left_over_and_missing_keys_are_all_listed():
    state = official("models/ms_detr.py")
    state["backbone.0.body.patch_embed.proj.weight"] = torch.zeros(3, 4)
    state["transformer.decoder.layers.1.linear1.scale"] = torch.zeros(2)
    del state["transformer.level_embed"]
    del state["transformer.encoder.layers.0.norm1.bias"]
    with pytest.raises(KeysError) as caught:
        to_ours(state)
    assert caught.value.left_over == (
        "backbone.0.body.patch_embed.proj.weight",
        "transformer.decoder.layers.1.linear1.scale",
    )
    assert caught.value.missing == (
        "transformer.encoder.layers.0.norm1.bias",
        "transformer.level_embed",
    )
    assert "patch_embed.proj.weight (3, 4)" in str(caught.value)


@pytest.mark.parametrize("config", ["models/ms_detr_a.py", "models/deformable_detr_one_stage.py"])
def test_no_key_can_be_missing_unseen(config):
    """Without any one key of a layer but the last, or of a head, the checkpoint is refused."""
    state = official(config)
    keys = [key for key in state if "layers.0." in key or "embed" in key or "body.layer" in key]
    for key in keys:
        less = {name: value for name, value in state.items() if name != key}
        with pytest.raises(CheckpointError):
            to_ours(less, family=MODELS[config])


def test_heads_that_the_official_code_lacks_are_left_over():
    state = ours("models/ms_detr.py")
    state["supervisions.mixed.box_heads.0.layers.0.weight"] = torch.zeros(2, 2)
    with pytest.raises(KeysError, match="box_heads"):
        to_official(state)


def test_wrong_direction_is_said():
    with pytest.raises(CheckpointError, match="the other way"):
        to_ours(ours("models/ms_detr.py"))
    with pytest.raises(CheckpointError, match="the other way"):
        to_official(official("models/ms_detr.py"))


@pytest.mark.parametrize("prefix", ["module.", "model.detector."])
def test_prefix_is_named_with_its_mend(prefix):
    there, here = official("models/ms_detr.py"), ours("models/ms_detr.py")
    for state, convert in ((there, to_ours), (here, to_official)):
        longer = {prefix + key: value for key, value in state.items()}
        with pytest.raises(CheckpointError) as caught:
            convert(longer)
        message = str(caught.value)
        assert f"key.removeprefix({prefix!r})" in message and "the other way" not in message
        assert ("several devices" in message) == (prefix == "module.")
    with pytest.raises(CheckpointError, match=r"removeprefix\('module\.'\).*the other way"):
        to_official({f"module.{key}": value for key, value in there.items()})
    with pytest.raises(CheckpointError, match=r"It is no \(MS-\)Deformable-DETR$"):
        to_ours({"fc.weight": torch.ones(1)})


def test_auxiliary_feed_forward_and_own_class_heads_exclude_each_other():
    state = ours("models/ms_detr.py")
    own = ours("models/ms_detr_a.py")
    state.update({key: value for key, value in own.items() if "mixed.class_heads" in key})
    with pytest.raises(CheckpointError, match="neither tree"):
        to_official(state)
    state = official("models/ms_detr_a.py")
    more = official("models/ms_detr.py")
    state.update({key: value for key, value in more.items() if "linear3" in key})
    with pytest.raises(CheckpointError, match="neither tree"):
        to_ours(state)


@pytest.mark.parametrize(
    "config, family, other",
    [
        ("models/ms_detr.py", "deformable-detr", "ms-detr"),
        ("models/ms_detr_a.py", "h-detr", "ms-detr"),
        ("models/deformable_detr_pp.py", "deformable-detr", "h-detr"),
    ],
)
def test_family_must_have_such_models(config, family, other):
    with pytest.raises(CheckpointError, match=f"use {other}"):
        to_ours(official(config), family=family)
    with pytest.raises(CheckpointError, match=f"use {other}"):
        to_official(ours(config), family=family)


def test_numbers_that_are_not_finite_are_refused():
    state = official("models/ms_detr.py")
    state["transformer.level_embed"][1, 2] = float("nan")
    with pytest.raises(CheckpointError, match=r"1 tensors .*transformer\.level_embed"):
        to_ours(state)


def test_counters_left_in_published_files_come_back():
    state = official("models/deformable_detr.py")
    state["backbone.0.body.total_ops"] = torch.zeros(1, dtype=torch.float64)
    state["total_params"] = torch.ones(1)
    converted = to_ours(state, family="deformable-detr")
    assert not any("total_" in key for key in converted.state)
    assert same(to_official(converted.state, converted.extras).state, state)


def test_one_decoder_layer_keeps_whether_it_refines():
    """With one layer our names do not tell shared heads from heads of each layer's own."""
    state = official("models/deformable_detr_one_stage_fixed.py")
    state = {
        key: value for key, value in state.items() if not re.search(r"embed\.1|er\.layers\.1", key)
    }
    converted = to_ours(state, family="deformable-detr")
    assert converted.layout.decoder_layers == 1 and not converted.layout.refined
    assert same(to_official(converted.state, converted.extras).state, state)


# Recorded key lists: config and family.
RECORDED = {
    "ms_detr_c": ("models/ms_detr.py", [], "ms-detr"),
    "ms_detr_c_noaux": ("models/ms_detr.py", ["model.supervisions.mixed.branch=null"], "ms-detr"),
    "ms_detr_a": ("models/ms_detr_a.py", [], "ms-detr"),
    "ms_detr_pp_300": ("models/ms_detr_pp.py", [], "ms-detr"),
    "deformable_detr_two_stage": ("models/deformable_detr.py", [], "deformable-detr"),
    "deformable_detr_one_stage": (
        "models/deformable_detr_one_stage_fixed.py",
        [],
        "deformable-detr",
    ),
}


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_keys_of_the_official_models(name, shared):
    path = shared / "golden" / f"keys_{name}.json"
    if not path.is_file():
        pytest.skip(f"no key list at {path}")
    entries = json.loads(path.read_text())["keys"]
    config, overrides, family = RECORDED[name]
    values = {}
    for number, entry in enumerate(entries):
        # No random numbers: they take longer than the rest.
        value = torch.arange(torch.Size(entry["shape"]).numel(), dtype=torch.float32) + number
        values.setdefault(entry["canonical"], value.reshape(entry["shape"]))
    state = {entry["key"]: values[entry["canonical"]] for entry in entries}
    converted = to_ours(state, family=family)
    check_fits(CONFIGS / config, overrides, converted.state)
    assert {pair.theirs[0] for pair in converted.pairs} == set(values)
    assert same(to_official(converted.state, converted.extras).state, state)


def test_layout_is_the_same_from_both_sides():
    for config in MODELS:
        there = official(config)
        here = to_ours(there, family=MODELS[config]).state
        assert Layout.read(there, Side.OFFICIAL) == Layout.read(here, Side.OURS)
