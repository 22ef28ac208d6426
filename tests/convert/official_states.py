"""Official state dicts and checkpoints for the tests, made of our small models."""

from __future__ import annotations

import argparse
from functools import cache

import torch
from small_models import build

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
