"""tools/convert.py, the config it names, and the loading of what it writes."""

from __future__ import annotations

import pathlib
import re
import shlex
import subprocess
import sys

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from official_states import (
    MODELS,
    checkpoint,
    full_size,
    official,
    ours,
    same,
    zeros,
)
from small_models import CONFIGS, build

from ms_detr.convert import load_official, save_official, save_ours, to_official, to_ours
from ms_detr.convert.recipes import check_fits, find_recipe

ROOT = CONFIGS.parent
TOOL = ROOT / "tools" / "convert.py"


def test_command_line_there_and_back(tool, tmp_path, capsys):
    content = checkpoint("models/ms_detr_pp.py", use_ms_detr=True, epochs=12)
    torch.save(content, tmp_path / "in.pth")
    words = [sys.executable, TOOL, "--from", "ms-detr", "in.pth", "ours.pth"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert tool.main(["--to", "ms-detr", f"{tmp_path}/ours.pth", f"{tmp_path}/back.pth"]) == 0
    for text in (done.stdout, capsys.readouterr().out):
        assert "transformer.encoder.layers.{0-1}.self_attn" in text
        assert re.search(r"Converted back, all \d+ tensors are the same, bit by bit", text)
    back = torch.load(tmp_path / "back.pth", weights_only=False)
    assert same(back["model"], content["model"])
    assert back["args"] == content["args"] and back["epoch"] == content["epoch"]
    assert set(back) == {"model", "args", "epoch"}


def test_table_says_what_became_of_everything(tool, tmp_path, capsys):
    torch.save(checkpoint(), tmp_path / "in.pth")
    assert tool.main(["--from", "ms-detr", f"{tmp_path}/in.pth", f"{tmp_path}/out.pth"]) == 0
    text = capsys.readouterr().out
    counts = [int(n) for n in re.findall(r"^\S+ +\S+ +(\d+) +\(\d", text, re.MULTILINE)]
    assert sum(counts) == len(torch.load(f"{tmp_path}/out.pth", weights_only=True)["model"])
    assert re.search(r"class_embed\.\{0-1\} +heads.* \(91, 32\) / \(80, 32\)", text)
    assert re.search(r"class_embed\.\{0-2\}\.weight +3 +\(11, 32\)", text)
    assert "not converted: lr_scheduler, optimizer" in text


@pytest.mark.parametrize("change, message", [
    ({"model": {"backbone.0.body.layers.0.blocks.0.attn.qkv.weight": torch.ones(3)}},
     "no decoder layer"),
    ({"lr_scheduler": pathlib.PurePosixPath("/tmp")}, "is refused"),
    ({"model": {**official("models/ms_detr.py"), "extra.weight": torch.ones(7)}},
     r"left over \(1\):\n +extra.weight \(7,\)"),
])  # fmt: skip
def test_errors_are_messages_and_nothing_is_written(tool, tmp_path, capsys, change, message):
    torch.save({**checkpoint(), **change}, tmp_path / "in.pth")
    assert tool.main(["--from", "ms-detr", f"{tmp_path}/in.pth", f"{tmp_path}/out.pth"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("convert: ") and re.search(message, error)
    assert [path.name for path in tmp_path.iterdir()] == ["in.pth"]


def test_config_must_fit_before_anything_is_written(tool, tmp_path, capsys):
    torch.save(checkpoint(), tmp_path / "in.pth")
    config = str(CONFIGS / "ms_detr/ms_detr_r50_300q_12ep.py")
    words = ["--from", "ms-detr", f"{tmp_path}/in.pth", f"{tmp_path}/out.pth"]
    assert tool.main([*words, "--config-file", config, "model.neck.embed_dim=32"]) == 2
    error = capsys.readouterr().err
    assert "encoder.layers.2.norm.bias: only in the config's model, (32,)" in error
    assert not (tmp_path / "out.pth").exists()
    with pytest.raises(SystemExit):
        tool.main([*words, "model.neck.embed_dim=32"])


def test_existing_output_is_kept(tool, tmp_path, capsys):
    torch.save(checkpoint(), tmp_path / "in.pth")
    (tmp_path / "out.pth").write_text("precious")
    words = ["--from", "ms-detr", f"{tmp_path}/in.pth", f"{tmp_path}/out.pth"]
    assert tool.main(words) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (tmp_path / "out.pth").read_text() == "precious"
    assert tool.main([*words, "--overwrite"]) == 0


def test_hybrid_checkpoint_says_how_many_queries_are_deployed(tool, tmp_path, capsys):
    options = {"num_queries_one2one": 5, "num_queries_one2many": 7, "epochs": 12}
    content = checkpoint("models/deformable_detr_pp.py", **options)
    torch.save(content, tmp_path / "in.pth")
    words = ["--from", "h-detr", f"{tmp_path}/in.pth", f"{tmp_path}/out.pth"]
    assert tool.main(words) == 0
    model = torch.load(tmp_path / "out.pth", weights_only=True)["model"]
    assert torch.equal(model["queries.content.weight"], content["model"]["query_embed.weight"][:5])
    back = ["--to", "h-detr", f"{tmp_path}/out.pth", f"{tmp_path}/back.pth"]
    assert tool.main(back) == 0
    assert same(load_official(tmp_path / "back.pth").model, content["model"])

    save_official(tmp_path / "in.pth", content["model"], overwrite=True)
    assert tool.main([*words, "--overwrite"]) == 2
    assert "add --num-queries" in capsys.readouterr().err
    assert tool.main([*words, "--overwrite", "--num-queries", "12"]) == 0


@pytest.mark.parametrize("value", ["many", 2.5, True, -1])
@pytest.mark.parametrize("name", ["num_queries", "nheads", "epochs", "topk_eval"])
def test_options_that_are_no_numbers_are_named(tool, tmp_path, capsys, name, value):
    torch.save(checkpoint("models/deformable_detr.py", **{name: value}), tmp_path / "in.pth")
    assert tool.main(["--from", "ms-detr", f"{tmp_path}/in.pth", f"{tmp_path}/out.pth"]) == 2
    assert f"{name}={value!r}, which is not a whole number" in capsys.readouterr().err
    assert not (tmp_path / "out.pth").exists()


def test_options_that_are_none_are_not_given(tool, tmp_path, capsys):
    options = dict.fromkeys(["num_queries", "nheads", "epochs", "topk_eval", "use_ms_detr"])
    torch.save(checkpoint("models/deformable_detr.py", **options), tmp_path / "in.pth")
    assert tool.main(["--from", "ms-detr", f"{tmp_path}/in.pth", f"{tmp_path}/out.pth"]) == 0
    assert "does not say its options" in capsys.readouterr().out
    torch.save(checkpoint("models/ms_detr.py", use_ms_detr="yes"), tmp_path / "in.pth")
    words = ["--from", "ms-detr", f"{tmp_path}/in.pth", f"{tmp_path}/out.pth", "--overwrite"]
    assert tool.main(words) == 2
    assert "use_ms_detr='yes', which is neither" in capsys.readouterr().err


def test_number_of_queries_where_it_has_no_place(tool, tmp_path, capsys):
    torch.save(checkpoint("models/deformable_detr.py"), tmp_path / "in.pth")
    paths = [f"{tmp_path}/in.pth", f"{tmp_path}/out.pth"]
    for family in ("ms-detr", "deformable-detr", "h-detr"):
        assert tool.main(["--from", family, *paths, "--num-queries", "5"]) == 2
        assert "no learned queries" in capsys.readouterr().err
    torch.save({"model": ours("models/deformable_detr_pp.py")}, tmp_path / "in.pth")
    with pytest.raises(SystemExit):
        tool.main(["--to", "h-detr", *paths, "--num-queries", "5"])
    assert "--num-queries belongs to --from" in capsys.readouterr().err
    assert not (tmp_path / "out.pth").exists()


def test_mixed_query_selection_is_said_once(tool, tmp_path, capsys):
    torch.save(checkpoint("models/ms_detr_pp.py"), tmp_path / "in.pth")
    assert tool.main(["--from", "ms-detr", f"{tmp_path}/in.pth", f"{tmp_path}/out.pth"]) == 0
    assert capsys.readouterr().out.splitlines()[0].count("mixed query selection") == 1


@pytest.mark.parametrize("config", MODELS)
def test_converted_file_loads_like_one_of_ours(config, tmp_path):
    """detectron2's checkpointer, which train_net.py uses, misses nothing and finds nothing new."""
    converted = to_ours(official(config), family=MODELS[config])
    save_ours(tmp_path / "out.pth", converted.state, {**converted.extras, "args": {"lr": 1}})
    model = build(config, num_classes=80)
    checkpointer = DetectionCheckpointer(model)
    found = []
    load_model = checkpointer._load_model
    checkpointer._load_model = lambda content: found.append(load_model(content)) or found[-1]
    checkpointer.resume_or_load(str(tmp_path / "out.pth"), resume=False)
    assert not found[0].missing_keys and not found[0].unexpected_keys
    assert not found[0].incorrect_shapes
    assert same(model.state_dict(), converted.state)


# (model, family, changes of the model, options of the official run, recipe, overrides)
RECIPES = [
    ("models/ms_detr.py", "ms-detr", {}, {"epochs": 12, "use_ms_detr": True},
     "ms_detr/ms_detr_r50_300q_12ep.py", []),
    ("models/ms_detr.py", "ms-detr", {"supervisions.mixed.branch": None}, {"use_ms_detr": True},
     "ms_detr/ms_detr_r50_300q_12ep.py", ["model.supervisions.mixed.branch=null"]),
    ("models/ms_detr_pp.py", "ms-detr", {"queries.num_queries": 900}, {"topk_eval": 300},
     "ms_detr/ms_detr_pp_r50_900q_12ep.py", []),
    ("models/deformable_detr.py", "ms-detr", {}, {"use_ms_detr": False, "num_queries": 300},
     "baselines/deformable_detr_r50_300q_12ep.py", []),
    ("models/deformable_detr.py", "deformable-detr", {"encoder.feedforward_dim": 1024}, {},
     "baselines/deformable_detr_r50_300q_12ep.py", ["model.encoder.feedforward_dim=1024"]),
    ("models/deformable_detr_pp.py", "h-detr", {"queries.num_queries": 250}, {},
     "baselines/deformable_detr_pp_r50_300q_12ep.py", ["model.queries.num_queries=250"]),
    ("models/deformable_detr_one_stage.py", "deformable-detr",
     {"encoder.feedforward_dim": 1024, "backbone.stages.depth": 101, "decoder.num_layers": 3}, {},
     "baselines/deformable_detr_one_stage_r50_300q_50ep.py",
     ["model.encoder.feedforward_dim=1024", "model.decoder.num_layers=3",
      "model.backbone.stages.depth=101"]),
    ("models/deformable_detr_one_stage.py", "deformable-detr",
     {"neck.in_channels": {"res5": 2048}, "neck.num_levels": 1}, {},
     "baselines/deformable_detr_one_stage_r50_300q_50ep.py",
     ["model.neck.num_levels=1", "~model.neck.in_channels.res3", "~model.neck.in_channels.res4"]),
]  # fmt: skip


@pytest.mark.parametrize("model, family, changes, options, config, overrides", RECIPES)
def test_recipe_that_fits(model, family, changes, options, config, overrides):
    state = full_size(model, changes)
    converted = to_ours(zeros(to_official(state, family=family).state), family=family)
    recipe = find_recipe(converted, options, CONFIGS, family)
    assert recipe.config == CONFIGS / config
    assert sorted(recipe.overrides) == sorted(overrides)
    check_fits(recipe.config, list(recipe.overrides), converted.state)


def test_classes_that_are_kept_and_single_object_output_are_said(tool, tmp_path, capsys):
    torch.save(checkpoint("models/deformable_detr.py"), tmp_path / "in.pth")
    words = ["--from", "deformable-detr", f"{tmp_path}/in.pth", f"{tmp_path}/out.pth"]
    assert tool.main([*words, "--classes", "keep"]) == 0
    assert "all 91 outputs are kept" in capsys.readouterr().out


def test_document_shows_commands_that_the_tool_understands(tool):
    """Every command of docs/checkpoints.md is parsed, with the arguments as they stand there."""
    text = (ROOT / "docs/checkpoints.md").read_text().replace("\\\n", "")
    commands = re.findall(r"^ {4}python tools/convert\.py (.*)$", text, re.MULTILINE)
    assert len(commands) >= 4
    for command in commands:
        tool.parse(shlex.split(command))
