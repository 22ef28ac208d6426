"""Turning one knob of a config: which there are, and what each is turned to."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, ListConfig

from ms_detr.config import iterate_nodes


class Built(Exception):
    """Raised by :class:`Other`."""


class Other:
    """Stands for another class: says so when the config builds it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise Built


def knobs(cfg: DictConfig) -> list[str]:
    """Dotted keys of all values of a config."""
    return [key for key, node in iterate_nodes(cfg) if _is_value(node)]


def is_reference(cfg: DictConfig, key: str) -> bool:
    """Whether a key refers to another one, so that the two must agree."""
    return dict(iterate_nodes(cfg))[key]._is_interpolation()


def _is_value(node: Any) -> bool:
    special = node._is_none() or node._is_interpolation()
    return special or not isinstance(node, (DictConfig, ListConfig))


def get(cfg: Any, key: str) -> Any:
    """The value of a dotted key, with references resolved."""
    for part in key.split("."):
        cfg = cfg[int(part) if isinstance(cfg, ListConfig) else part]
    return cfg


def put(cfg: Any, key: str, value: Any) -> None:
    """Replace the value of a dotted key."""
    parent, _, last = key.rpartition(".")
    node = get(cfg, parent) if parent else cfg
    node[int(last) if isinstance(node, ListConfig) else last] = value


def turned(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return 1.5 * value + 0.25
    raise TypeError(f"nothing is known to turn {value!r} to")


def target_name(value: Any) -> str:
    """Last part of the name of a lazy call's target."""
    return value.rpartition(".")[2] if isinstance(value, str) else value.__name__
