"""Activation checkpointing: memory for time (Chen et al., "Training deep nets with sublinear memory
cost", 2016)."""

from __future__ import annotations

import difflib
import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ..errors import ConfigError

logger = logging.getLogger(__name__)


def recompute_parts(model: nn.Module, names: Sequence[str]) -> list[nn.Module]:
    """Makes parts keep their inputs only, and compute the rest anew in the backward pass.

    Gradients are the same: also dropout draws the same numbers again.  Names of parameters do not
    change, and nothing changes in inference.

    Args:
        model: the model, not wrapped for several processes.
        names: dotted names of parts.  A list of layers, such as ``encoder.layers``, means every
            layer by itself; another part, such as ``backbone.res3``, is computed anew as a whole.

    Returns:
        The parts.

    Raises:
        ConfigError: a name that no part has, a part that lies in another one, or one with a batch
            norm that learns from its batches, which would see every batch twice.
    """
    key = "train.activation_checkpointing"
    if isinstance(names, str):
        raise ConfigError(f"{key} is {names!r}: give a list, {key}=[{names}]")
    known, parts = dict(model.named_modules()), {}
    for name in names:
        if not name or name not in known:
            close = difflib.get_close_matches(str(name), list(known), n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise ConfigError(
                f"{key} names {name!r}, but the model has no such part; {hint}good choices are "
                f"encoder.layers and decoder.layers"
            )
        if isinstance(known[name], nn.ModuleList):
            parts.update({f"{name}.{index}": part for index, part in enumerate(known[name])})
        else:
            parts[name] = known[name]
    for name, part in parts.items():
        _check(key, name, part, parts)
    for part in parts.values():
        part.forward = functools.partial(_forward, part, part.forward)  # type: ignore[method-assign]
    if parts:
        logger.info("computed anew in the backward pass: %s", ", ".join(parts))
    return list(parts.values())


def _check(key: str, name: str, part: nn.Module, parts: dict[str, nn.Module]) -> None:
    outer = [other for other in parts if name.startswith(f"{other}.")]
    if outer:
        raise ConfigError(f"{key} names {name}, which lies in {outer[0]}; name one of them")
    for inner, module in part.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats:
            raise ConfigError(
                f"{key} names {name}, but its batch norm {inner} would learn from every batch "
                f"twice; leave {name} out, or use another norm"
            )


def _forward(part: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if part.training and torch.is_grad_enabled():
        return checkpoint(forward, *args, use_reentrant=False, **kwargs)
    return forward(*args, **kwargs)
