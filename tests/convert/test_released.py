"""Ours to official: names allow more than the official code has; what a config says decides."""

from __future__ import annotations

import re

import pytest
import torch
from detectron2.config import instantiate
from official_states import checkpoint, ours, randomise, small_config

from ms_detr.config import load_config

NO_BRANCH = "model.supervisions.mixed.branch = None"
NEVER_RELEASED = [
    ("models/ms_detr_b.py", "", "implementation (b)"),
    ("models/ms_detr_d.py", "", "implementation (d)"),
    ("models/ms_detr_d.py", NO_BRANCH, "implementation (d)"),
    ("models/ms_detr_a.py", "model.supervisions.mixed.tap = 'internal'", "(d)"),
    ("models/ms_detr_a.py", "model.supervisions.mixed.class_heads = None",
     "without own class heads"),
    ("models/ms_detr.py", "model.supervisions.mixed.class_heads = "
     "load('models/ms_detr_a.py').model.supervisions.mixed.class_heads", "neither tree"),
]  # fmt: skip
"""Of a config, lines that change it, and what is said."""


@pytest.mark.parametrize("config, changes, message", NEVER_RELEASED)
def test_models_that_were_never_released_are_refused(
    tool, tmp_path, capsys, config, changes, message
):
    path = small_config(tmp_path, config, changes)
    state = randomise(instantiate(load_config(path).model).state_dict())
    torch.save({"model": state}, tmp_path / "in.pth")
    words = ["--to", "ms-detr", f"{tmp_path}/in.pth", f"{tmp_path}/out.pth"]
    assert tool.main([*words, "--config-file", path]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out.pth").exists()


@pytest.mark.parametrize("config, family", [
    ("models/ms_detr.py", "ms-detr"),
    ("models/ms_detr_a.py", "ms-detr"),
    ("models/deformable_detr.py", "deformable-detr"),
])  # fmt: skip
def test_order_of_attentions_is_warned_of_unless_a_config_says_it(
    tool, tmp_path, capsys, config, family
):
    torch.save({"model": ours(config)}, tmp_path / "in.pth")
    words = ["--to", family, f"{tmp_path}/in.pth", f"{tmp_path}/out.pth", "--overwrite"]
    assert tool.main(words) == 0
    found = re.findall(r"WARNING: the order of the two attentions .*", capsys.readouterr().out)
    assert len(found) == 1 and "model.decoder.layer._target_" in found[0]
    assert tool.main([*words, "--config-file", small_config(tmp_path, config)]) == 0
    assert "WARNING" not in capsys.readouterr().out


def test_cross_attention_first_belongs_to_one_family(tool, tmp_path, capsys):
    """Without its feed-forward, (c) has the names and shapes of Deformable-DETR."""
    config = small_config(tmp_path, "models/ms_detr.py", NO_BRANCH)
    torch.save({"model": ours("models/deformable_detr.py")}, tmp_path / "in.pth")
    words = [f"{tmp_path}/in.pth", f"{tmp_path}/out.pth", "--config-file", config]
    for family in ("deformable-detr", "h-detr"):
        assert tool.main(["--to", family, *words]) == 2
        assert "has cross-attention first" in capsys.readouterr().err
    assert not (tmp_path / "out.pth").exists()
    assert tool.main(["--to", "ms-detr", *words]) == 0


def test_config_and_options_must_not_contradict_each_other(tool, tmp_path, capsys):
    """(d) has the names and shapes of (c), in both directions."""
    torch.save(checkpoint("models/ms_detr.py", use_ms_detr=True), tmp_path / "in.pth")
    config = ["--config-file", small_config(tmp_path, "models/ms_detr_d.py")]
    words = ["--from", "ms-detr", f"{tmp_path}/in.pth", f"{tmp_path}/ours.pth"]
    assert tool.main([*words, *config]) == 2
    contradiction = "config has self-attention first, but the official model has cross"
    assert contradiction in capsys.readouterr().err
    assert tool.main(words) == 0
    words = ["--to", "ms-detr", f"{tmp_path}/ours.pth", f"{tmp_path}/back.pth"]
    assert tool.main([*words, *config]) == 2
    assert contradiction in capsys.readouterr().err
    assert not (tmp_path / "back.pth").exists()


def test_config_says_whether_boxes_are_refined(tool, tmp_path, capsys):
    """Fixed references with heads of each layer's own have the names of a model that refines."""
    changes = (
        "from ms_detr.decoder import FixedReference\n"
        "model.decoder.refinement._target_ = FixedReference"
    )
    config = small_config(tmp_path, "models/deformable_detr_one_stage.py", changes)
    torch.save({"model": ours("models/deformable_detr_one_stage.py")}, tmp_path / "in.pth")
    words = ["--to", "deformable-detr", f"{tmp_path}/in.pth", f"{tmp_path}/out.pth"]
    assert tool.main([*words, "--config-file", config]) == 2
    assert "left over" in capsys.readouterr().err
