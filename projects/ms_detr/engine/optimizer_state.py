"""The state of an optimizer, in whatever order its parameters are."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer

from ..errors import ConfigError

# What optimizers keep for a parameter in its own shape.
_LIKE_THE_PARAMETER = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer")

Names = Sequence[Sequence[str]]
"""Of the parameters of every group, as in the model; a number for those that are not in it."""


def parameter_names(model: nn.Module, optimizer: Optimizer) -> list[list[str]]:
    """Names of the parameters of an optimizer, group by group."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    others = itertools.count()
    return [
        [
            names[id(parameter)].removeprefix("module.")
            if id(parameter) in names
            else str(next(others))
            for parameter in group["params"]
        ]
        for group in optimizer.param_groups
    ]


def in_order(state: dict[str, Any], saved: Names, names: Names) -> dict[str, Any]:
    """The state of an optimizer for one whose groups have their parameters in another order.

    PyTorch knows parameters by their number alone, and gives each the state of that number.

    Args:
        state: ``optimizer.state_dict()``.
        saved: names in the optimizer it is of.
        names: names in the one that is to have it.

    Raises:
        ConfigError: the groups have other parameters.
    """
    if list(map(sorted, saved)) != list(map(sorted, names)):
        raise ConfigError(
            f"--resume: the checkpoint's optimizer has other parameters ({_differ(saved, names)}); "
            f"resume with the train.freeze and optimizer.params that the run was started with"
        )
    ordered = []
    for group, before, now in zip(state["param_groups"], saved, names):
        number = dict(zip(before, group["params"]))
        ordered.append({**group, "params": [number[name] for name in now]})
    return {**state, "param_groups": ordered}


def check_shapes(state: dict[str, Any], optimizer: Optimizer) -> None:
    """Raises ConfigError if a parameter would get the averages of one of another shape."""
    for saved, group in zip(state["param_groups"], optimizer.param_groups):
        for number, parameter in zip(saved["params"], group["params"]):
            for key, value in state["state"].get(number, {}).items():
                if key in _LIKE_THE_PARAMETER and value.shape != parameter.shape:
                    raise ConfigError(
                        f"--resume: the checkpoint's optimizer has {key} of shape "
                        f"{tuple(value.shape)} for a parameter of shape {tuple(parameter.shape)}: "
                        f"its parameters are in another order, and it does not tell in which; "
                        f"resume with the config file that the run was started with"
                    )


def _differ(saved: Names, names: Names) -> str:
    there, here = ({name for group in groups for name in group} for groups in (saved, names))
    if differing := sorted(there ^ here):
        where = "the checkpoint" if differing[0] in there else "the config"
        return f"{len(differing)} of them, the first is {differing[0]}, only in {where}"
    sizes = (", ".join(str(len(group)) for group in groups) for groups in (saved, names))
    return "in groups of {} there, of {} here".format(*sizes)
