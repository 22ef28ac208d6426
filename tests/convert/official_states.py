"""Official state dicts and checkpoints for the tests, made of our small models."""

from __future__ import annotations

import argparse
from functools import cache
from pathlib import Path

import torch
from detectron2.config import instantiate
from omegaconf import DictConfig, OmegaConf
from small_models import build, load

from ms_detr.convert import to_official

# Config of the model, and the family of its official code.
MODELS = {
    "models/ms_detr.py": "ms-detr",
    "models/ms_detr_a.py": "ms-detr",
    "models/ms_detr_b.py": "ms-detr",
    "models/ms_detr_d.py": "ms-detr",
    "models/ms_detr_pp.py": "ms-detr",
    "models/ms_detr_pp_a.py": "ms-detr",
    "models/ms_detr_one_stage.py": "ms-detr",
    "models/deformable_detr.py": "deformable-detr",
    "models/deformable_detr_one_stage.py": "deformable-detr",
    "models/deformable_detr_one_stage_fixed.py": "deformable-detr",
    "models/deformable_detr_pp.py": "h-detr",
}


def randomise(state: dict[str, torch.Tensor], seed: int = 0) -> dict[str, torch.Tensor]:
    """Other values for every tensor, the same for tensors that are one."""
    generator = torch.Generator().manual_seed(seed)
    values: dict[int, torch.Tensor] = {}
    for tensor in state.values():
        drawn = torch.randn(tensor.shape, generator=generator)
        values.setdefault(id(tensor), drawn.to(tensor.dtype))
    return {key: values[id(tensor)] for key, tensor in state.items()}


def ours(config: str, num_classes: int = 80) -> dict[str, torch.Tensor]:
    """State dict of a small model with random values."""
    return randomise(_initial(config, num_classes))


@cache
def _initial(config: str, num_classes: int) -> dict[str, torch.Tensor]:
    return build(config, num_classes=num_classes).state_dict()


def official(config: str, num_classes: int = 80) -> dict[str, torch.Tensor]:
    """Official state dict of a small model: all values are drawn, also those ours has not."""
    made = to_official(ours(config, num_classes), family=MODELS[config])
    return randomise(made.state, seed=1)


def full_model(config: str, changes: dict | None = None) -> DictConfig:
    """Config of a model as it is published, with changes."""
    node = load(config).model
    for key, value in (changes or {}).items():
        OmegaConf.update(node, key, value, merge=False)
    return node


def full_size(config: str, changes: dict | None = None) -> dict[str, torch.Tensor]:
    """State dict of such a model, of zeros that take no memory."""
    with torch.device("meta"):
        state = instantiate(full_model(config, changes)).state_dict()
    return zeros(state)


def zeros(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Zeros of the same shapes, that take no memory."""
    return {key: torch.zeros(()).expand(value.shape) for key, value in state.items()}


def small_config(folder: Path, config: str, changes: str = "") -> str:
    """Path of a config of the small model with 80 classes, and lines that change it."""
    path = folder / "config.py"
    path.write_text(
        "from small_models import load, shrink\n"
        f"model = shrink(load({config!r}).model, num_classes=80)\n{changes}\n"
    )
    return str(path)


def checkpoint(config: str = "models/ms_detr.py", **options) -> dict:
    """What an official training run saves."""
    return {
        "model": official(config),
        "optimizer": {"state": {}, "param_groups": []},
        "lr_scheduler": {"step_size": 11},
        "epoch": 11,
        "args": argparse.Namespace(**{"lr": 2e-4, "lr_backbone_names": ["backbone.0"], **options}),
    }


def same(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> bool:
    """The same names, and bit by bit the same values."""
    return found.keys() == wanted.keys() and all(
        found[key].dtype == wanted[key].dtype and torch.equal(found[key], wanted[key])
        for key in wanted
    )
