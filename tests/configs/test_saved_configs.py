"""A config that a run leaves says what the run's config said, in the same order."""

from __future__ import annotations

import math
import pickle
from pathlib import Path

import pytest
import torch
import yaml
from detectron2.config import instantiate
from omegaconf import OmegaConf
from small_models import load, shrink

from ms_detr.config import load_config
from ms_detr.config_file import save_config

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
RECIPES = sorted(
    str(path.relative_to(CONFIGS))
    for folder in ("ms_detr", "mask", "lvis", "comparators", "combined", "collaborative", "demo")
    for path in (CONFIGS / folder).glob("*.py")
    if path.name != "__init__.py"
)


def saved(cfg, folder: Path):
    save_config(cfg, str(folder / "config.yaml"))
    return load_config(folder / "config.yaml")


def keys(node) -> list:
    """Keys in their order, all the way down."""
    if isinstance(node, dict):
        return [(key, keys(value)) for key, value in node.items()]
    return [keys(value) for value in node] if isinstance(node, list) else []


@pytest.mark.parametrize("name", RECIPES)
def test_nothing_is_lost_and_keys_keep_their_order(name, tmp_path):
    cfg = load(name)
    found = saved(cfg, tmp_path)
    as_read = [OmegaConf.to_container(one, resolve=False) for one in (cfg, found)]
    assert keys(as_read[0]) == keys(as_read[1])
    # Saved again it is the same text: values are the same, names included.
    save_config(found, str(tmp_path / "again.yaml"))
    text = (tmp_path / "config.yaml").read_text()
    assert (tmp_path / "again.yaml").read_text() == text
    assert "!!python/object" not in text


@pytest.mark.parametrize(
    "name",
    ["combined/ms_co_atss_rcnn_pp_r50_300q_12ep.py", "combined/ms_dino_4scale_r50_900q_12ep.py"],
)
def test_the_same_weights_are_drawn(name, tmp_path):
    """Whose order supervisions decide: optimizers know parameters by their number."""
    cfg = OmegaConf.create({"model": shrink(load(name).model)}, flags={"allow_objects": True})
    states = []
    for one in (cfg, saved(cfg, tmp_path)):
        torch.manual_seed(0)
        states.append(instantiate(one.model).state_dict())
    assert list(states[0]) == list(states[1])
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    in_order = list(cfg.model.supervisions)
    assert in_order != sorted(in_order)


def test_values_of_every_kind(tmp_path):
    content = {"text": "ä: 'x' # no", "none": None, "whole": 3, "real": 1e-5, "yes": True}
    content |= {"list": [1, {"z": 2, "a": [3]}], "same": "${whole}", "function": math.sqrt}
    lazy = {"_target_": torch.nn.Linear, "bias": False}
    node = OmegaConf.create({**content, "lazy": lazy}, flags={"allow_objects": True})
    save_config(node, str(tmp_path / "config.yaml"))
    read = yaml.unsafe_load((tmp_path / "config.yaml").read_text(encoding="utf-8"))
    assert read == {**content, "lazy": lazy | {"_target_": "torch.nn.Linear"}}


def test_what_no_yaml_can_hold_is_left_to_detectron2(tmp_path):
    node = OmegaConf.create({"kind": torch.float16}, flags={"allow_objects": True})
    save_config(node, str(tmp_path / "config.yaml"))
    assert pickle.loads((tmp_path / "config.yaml.pkl").read_bytes()).kind == torch.float16
