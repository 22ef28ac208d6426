"""The command that evaluates a converted model in the official code."""

from __future__ import annotations

import shlex

import pytest
from official_states import full_model, full_size, ours
from omegaconf import DictConfig

from ms_detr.convert import Settings, to_official
from ms_detr.convert.official_run import official_run

TWO_STAGE = "--with_box_refine --two_stage --dim_feedforward 2048"
NO_BRANCH = {"supervisions.mixed.branch": None}
# Model, changes of it, family, folder and options.  Options are those that differ from the
# defaults of the official parsers: 8 heads, 4 points, 300 queries, 100 detections, ...
COMMANDS = [
    ("models/ms_detr.py", {}, "ms-detr", "", f"{TWO_STAGE} --use_ms_detr --use_aux_ffn"),
    ("models/ms_detr.py", NO_BRANCH, "ms-detr", "", f"{TWO_STAGE} --use_ms_detr"),
    ("models/ms_detr_a.py", {}, "ms-detr", "impl_a", f"{TWO_STAGE} --use_ms_detr"),
    ("models/deformable_detr.py", {}, "ms-detr", "", TWO_STAGE),
    ("models/deformable_detr.py", {"queries.num_queries": 250, "encoder.num_heads": 4,
     "decoder.layer.num_heads": 4, "encoder.num_points": 8, "decoder.layer.num_points": 2},
     "deformable-detr", "",
     f"{TWO_STAGE} --nheads 4 --enc_n_points 8 --dec_n_points 2 --num_queries 250"),
    ("models/ms_detr_pp.py",
     {"queries.num_queries": 900, "postprocess.num_detections": 300, "backbone.stages.depth": 101,
      "encoder.num_layers": 3, "decoder.num_layers": 2, "neck.num_levels": 5}, "ms-detr", "",
     "--with_box_refine --two_stage --mixed_selection --backbone resnet101 --enc_layers 3 "
     "--dec_layers 2 --dim_feedforward 2048 --num_feature_levels 5 --look_forward_twice "
     "--use_ms_detr --use_aux_ffn --topk_eval 300 --num_queries 900"),
    ("models/deformable_detr_pp.py", {"queries.num_queries": 200}, "h-detr", "",
     "--with_box_refine --two_stage --mixed_selection --dim_feedforward 2048 "
     "--look_forward_twice --num_queries_one2one 200"),
    ("models/deformable_detr_one_stage_fixed.py",
     {"encoder.feedforward_dim": 1024, "neck.in_channels": {"res5": 2048}, "neck.num_levels": 1},
     "deformable-detr", "", "--num_feature_levels 1"),
]  # fmt: skip


@pytest.mark.parametrize("config, changes, family, folder, options", COMMANDS)
def test_options_that_differ_from_the_official_defaults(config, changes, family, folder, options):
    converted = to_official(full_size(config, changes), family=family)
    run = official_run(converted, Settings.from_config(full_model(config, changes)), "/a b.pth")
    assert run.obstacles == () and run.assumptions == () and run.folder == folder
    words = shlex.split(run.command)
    assert words[:5] == ["python", "main.py", "--eval", "--resume", "/a b.pth"]
    assert _options(words[5:]) == _options(options.split())


def test_suppression_is_an_option():
    model = full_model("models/ms_detr.py")
    model.postprocess = {
        "_target_": "ms_detr.heads.ClippedDetections",
        "detections": {
            "_target_": "ms_detr.heads.NMSDetections", "num_detections": 50, "iou_threshold": 0.6
        },
    }  # fmt: skip
    converted = to_official(full_size("models/ms_detr.py"))
    command = official_run(converted, Settings.from_config(model), "x").command
    assert "--nms_iou_threshold 0.6 --topk_eval 50" in command


def test_options_of_the_official_training_come_back():
    state = full_size("models/deformable_detr.py", {"encoder.num_points": 2})
    args = {"nheads": 8, "enc_n_points": 2, "dec_n_points": 4, "num_queries": 100,
            "use_ms_detr": True, "topk_eval": 300, "dilation": True}  # fmt: skip
    extras = {"family": "ms-detr", "args": args}
    converted = to_official(state, extras)
    settings = Settings.from_options(args, converted.layout, "ms-detr")
    run = official_run(converted, settings, "x")
    assert not run.obstacles and not run.assumptions
    for option in ("--enc_n_points 2", "--num_queries 100", "--use_ms_detr", "--topk_eval 300",
                   "--dilation"):  # fmt: skip
        assert f"{option} " in f"{run.command} "
    assert "nheads" not in run.command and "dec_n_points" not in run.command


# Model, changes, family, and what is said.
OBSTACLES = [
    ("models/ms_detr_pp_a.py", {}, "ms-detr", "no mixed query selection"),
    ("models/ms_detr_one_stage.py", {}, "ms-detr", "one-stage models do not run"),
    ("models/deformable_detr_one_stage.py", {}, "ms-detr", "use --to deformable-detr"),
    ("models/ms_detr.py", {"heads.num_classes": 20}, "ms-detr", "20 class outputs"),
    ("models/ms_detr.py", {"backbone.stages.num_groups": 32}, "ms-detr", "backbone"),
    ("models/ms_detr.py", {"backbone.freeze_at": 0, "backbone.stem.norm": "BN",
     "backbone.stages.norm": "BN"}, "ms-detr", "backbone"),
    ("models/ms_detr.py", {"backbone.stages.stride_in_1x1": True}, "ms-detr", "stride_in_1x1"),
    ("models/ms_detr.py", {"neck.num_groups": 16}, "ms-detr", "num_groups"),
    ("models/ms_detr.py", {"neck.embed_dim": 128}, "ms-detr", "256 channels, not 128"),
    ("models/ms_detr.py", {"neck.in_channels": {"res4": 1024, "res5": 2048}}, "ms-detr", "levels"),
    ("models/ms_detr.py", {"decoder.layer.feedforward_dim": 1024}, "ms-detr", "feed-forwards"),
    ("models/ms_detr.py", {"encoder.num_heads": 4}, "ms-detr", "attention heads"),
    ("models/deformable_detr.py", {"postprocess.num_detections": 300}, "deformable-detr",
     "always gives 100"),
]  # fmt: skip


@pytest.mark.parametrize("config, changes, family, message", OBSTACLES)
def test_no_command_for_what_the_official_code_cannot_build(config, changes, family, message):
    converted = to_official(full_size(config, changes), family=family)
    run = official_run(converted, Settings.from_config(full_model(config, changes)), "x")
    assert run.command is None
    assert message in "\n".join(run.obstacles)


def test_what_nothing_says_is_assumed_aloud():
    run = official_run(to_official(full_size("models/deformable_detr.py")), Settings(), "x")
    order, sizes = run.assumptions
    assert "with self-attention first" in order and "--use_ms_detr" in order
    assert "--nheads" in sizes and "--num_queries" in sizes and run.command
    run = official_run(to_official(full_size("models/ms_detr_pp.py")), Settings(), "x")
    assert "(d)" in run.assumptions[0] and "300 queries" not in run.assumptions[1]


def test_attention_that_is_not_the_default_must_be_known():
    converted = to_official(ours("models/ms_detr.py"))
    obstacles = "\n".join(official_run(converted, Settings(), "x").obstacles)
    assert "encoder has 8 heads x sampling points" in obstacles and "--config-file" in obstacles
    wrong = Settings(encoder_heads=4, encoder_points=4, decoder_heads=4, decoder_points=2)
    obstacles = "\n".join(official_run(converted, wrong, "x").obstacles)
    assert "encoder has 8" in obstacles and "decoder has" not in obstacles


def test_settings_of_a_config():
    model = full_model("models/ms_detr_d.py")
    assert isinstance(model, DictConfig)
    settings = Settings.from_config(model)
    assert (settings.cross_first, settings.tap, settings.refined) == (False, "internal", True)
    assert Settings.from_config(full_model("models/ms_detr_b.py")).cross_first is True
    assert not Settings.from_config(full_model("models/deformable_detr_one_stage_fixed.py")).refined
    model.decoder.layer["_target_"] = "torch.nn.Linear"
    with pytest.raises(ValueError, match=r"model\.decoder\.layer is a Linear"):
        Settings.from_config(model)


def _options(words: list[str]) -> dict[str, str]:
    """Options with their values, in whatever order."""
    text = " ".join(words).split("--")
    return {name: value for name, _, value in (part.strip().partition(" ") for part in text[1:])}
