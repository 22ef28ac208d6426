"""Overrides that cannot go unnoticed."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import DictConfig

from ms_detr.config import load_config
from ms_detr.errors import ConfigError

CONFIG = """
import torch
from detectron2.config import LazyCall as L

def free(weight: float = 1, **others):
    pass

optimizer = L(torch.optim.AdamW)(params=None, lr=1e-4, betas=(0.9, 0.99))
train = dict(max_iter=10, output_dir="x", amp=dict(enabled=False, dtype="bf16"),
             sizes=[dict(short=480), 7])
dataset = dict(train_json="???")
model = L(torch.nn.Linear)(in_features=2, out_features="${dataset.num_classes}")
term = L(free)(weight=2)
named = L(free)(one_to_one=dict(k=1), mixed=dict(k=6))
"""


@pytest.fixture
def load(tmp_path: Path):
    path = tmp_path / "config.py"
    path.write_text(CONFIG)

    def load(*overrides: str) -> DictConfig:
        return load_config(path, overrides)

    return load


@pytest.mark.parametrize(
    "override, key, value",
    [
        ("train.max_iter=20", "train.max_iter", 20),
        ("train.max_iter=null", "train.max_iter", None),
        ("optimizer.lr=1", "optimizer.lr", 1.0),
        ("optimizer.lr=3e-4", "optimizer.lr", 3e-4),
        ("optimizer.betas=[0.8,0.9]", "optimizer.betas", [0.8, 0.9]),
        ("optimizer.weight_decay=0.1", "optimizer.weight_decay", 0.1),  # AdamW has it, unset here
        ("term.weight=2.5", "term.weight", 2.5),  # written as 2, but a float by its annotation
        ("train.amp.enabled=true", "train.amp.enabled", True),
        ("train.amp={enabled: true}", "train.amp", {"enabled": True, "dtype": "bf16"}),
        ("train.output_dir=2024", "train.output_dir", "2024"),
        ("train.output_dir=/a b/c", "train.output_dir", "/a b/c"),
        ("train.output_dir=/a(1),b=c", "train.output_dir", "/a(1),b=c"),
        ("dataset.train_json=/data/x.json", "dataset.train_json", "/data/x.json"),
        ("model.out_features=7", "model.out_features", 7),
        ("model.bias=false", "model.bias", False),
        ("optimizer._target_=torch.optim.SGD", "optimizer._target_", "torch.optim.SGD"),
        ("train.sizes.0.short=600", "train.sizes.0.short", 600),
        ("+train.new=3", "train.new", 3),
        ("+train.deep.new=3", "train.deep.new", 3),
        ("+named.group={k: 2}", "named.group", {"k": 2}),
        ("++train.max_iter=3", "train.max_iter", 3),
        ("++train.new=3", "train.new", 3),
    ],
)
def test_good_override(load, override, key, value):
    node = load(override)
    for part in key.split("."):
        node = node[int(part)] if part.isdigit() else node[part]
    assert node == value and type(node) is type(value) or not isinstance(value, (int, float, str))


@pytest.mark.parametrize(
    "override, message",
    [
        ("train.max_itr=3", "unknown config key train.max_itr; did you mean train.max_iter?"),
        ("max_iter=3", "did you mean train.max_iter?"),
        ("trian.max_iter=3", "did you mean train.max_iter?"),
        ("optimizer.weight_dcay=1", "did you mean optimizer.weight_decay?"),
        ("train.amp={enabld: true}", "did you mean train.amp.enabled?"),
        ("named.mixd={k: 1}", "did you mean named.mixed?"),
        ("zzz=1", "unknown config key zzz; (+zzz=... adds a new key)"),
        ("~train.ampp", "did you mean train.amp?"),
        ("~named.mixd", "did you mean named.mixed?"),
        ("~train.amp=1", "a deletion takes no value"),
        ("+train.max_iter=3", "exists already"),
        ("+optimizer.foo=1", "AdamW has no parameter 'foo'"),
        ("train.sizes.5=1", "unknown config key train.sizes.5"),
        ("train.sizes.x=1", "unknown config key train.sizes.x"),
        ("train.max_iter.x=3", "train.max_iter is 10 (int), not a section"),
        ("train.max_iter=abc", "train.max_iter is a whole number (now 10), but 'abc' is a text"),
        ("train.max_iter=3.5", "3.5 is a number; give a whole number"),
        ("train.max_iter=true", "True is true or false"),
        ("train.amp.enabled=1", "give true or false"),
        ("train.amp=true", "give a section"),
        ("optimizer.lr=fast", "'fast' is a text; give a number"),
        ("optimizer.betas=3", "give a list"),
        ("train.max_iter=1,2", "cannot read the override"),
        ("--resume", "options go before"),
        ("train.max_iter", "cannot read the override"),
        ("optimizer._target_=torch.optim.Nothing", "nothing to import"),
    ],
)  # fmt: skip
def test_bad_override(load, override, message):
    with pytest.raises(ConfigError) as caught:
        load(override)
    assert message in str(caught.value) and override in str(caught.value)


def test_deletion(load):
    cfg = load("~named.mixed", "~train.amp", "~train.sizes.1")
    assert list(cfg.named) == ["one_to_one", "_target_"]
    assert "amp" not in cfg.train and len(cfg.train.sizes) == 1


def test_reference_to_what_was_deleted(repository):
    path = repository / "configs/custom/small_mask.py"
    with pytest.raises(ConfigError, match="mixed.masks refers to .*, which is not there any"):
        load_config(path, ["~model.supervisions.one_to_one"])
    both = ["~model.supervisions.mixed.masks", "~model.supervisions.one_to_one"]
    assert "one_to_one" not in load_config(path, both).model.supervisions


def test_overrides_apply_in_order(load):
    assert load("+train.new=3", "train.new=4").train.new == 4


def test_no_file(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        load_config(tmp_path / "none.py")
    with pytest.raises(ConfigError, match="--config-file"):
        load_config("")
