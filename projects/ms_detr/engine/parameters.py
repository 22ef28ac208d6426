"""Parameter groups with learning-rate multipliers."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

from torch import nn

logger = logging.getLogger(__name__)


def get_parameter_groups(
    model: nn.Module,
    base_lr: float,
    lr_multipliers: Mapping[str, float] | None = None,
    strict: bool = False,
) -> list[dict[str, Any]]:
    """Groups the trainable parameters by their learning rate.

    A multiplier's key names one or more whole components of a parameter's dotted name:
    ``"backbone"`` covers ``backbone.res2.weight`` but not ``backbone_norm.weight``, and
    ``"backbone.stem"`` covers ``backbone.stem.conv1.weight``. The first key that covers a
    parameter decides, so multipliers never add up. Frozen parameters are left out, shared ones
    are listed once. Weight decay is left to the optimizer and is the same for all, biases and
    norms included, as in the published recipe.

    Args:
        model: the model.
        base_lr: learning rate of the parameters that no key covers.
        lr_multipliers: factors on ``base_lr`` by key.
        strict: whether a key that covers no parameter is an error. By default it is only logged,
            because one recipe serves several models: a two-stage model has no
            ``reference_points``.

    Returns:
        Groups with keys "params", "lr" and "name"; the first, "base", holds what no key covers.

    Raises:
        ValueError: a multiplier that is not a positive number, nothing to train, or, if
            ``strict``, a key that covers nothing.
    """
    multipliers = dict(lr_multipliers or {})
    for key, factor in multipliers.items():
        if not (isinstance(factor, (int, float)) and math.isfinite(factor) and factor > 0):
            raise ValueError(
                f"lr_multipliers[{key!r}] is {factor!r}: it must be a number above 0 "
                f"(to freeze parameters, give them requires_grad=False)"
            )
    groups: dict[str, dict[str, Any]] = {"base": {"params": [], "lr": base_lr, "name": "base"}}
    for key, factor in multipliers.items():
        groups[key] = {"params": [], "lr": base_lr * factor, "name": key}
    covered: set[str] = set()
    for name, parameter in model.named_parameters():  # yields a shared parameter once
        keys = [key for key in multipliers if f".{key}." in f".{name}."]
        covered.update(keys)
        if parameter.requires_grad:
            groups[keys[0] if keys else "base"]["params"].append(parameter)
    unused = [key for key in multipliers if key not in covered]
    if unused:
        message = f"no parameter of the model has a component named {', '.join(unused)}"
        if strict:
            raise ValueError(f"lr_multipliers: {message}; take it out of the config")
        logger.info("lr_multipliers: %s", message)
    filled = [group for group in groups.values() if group["params"]]
    if not filled:
        raise ValueError("the model has no parameter that requires a gradient: nothing to train")
    for group in filled:
        size = sum(parameter.numel() for parameter in group["params"])
        logger.info(
            "parameter group %s: %d tensors, %d values, lr %g",
            group["name"], len(group["params"]), size, group["lr"],
        )  # fmt: skip
    return filled
