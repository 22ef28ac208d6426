"""Loading a lazy config, with overrides that cannot go unnoticed.

detectron2's own ``LazyConfig.apply_overrides`` adds a misspelt key without a word, and the run
then uses the value it was meant to replace. Here a key must exist (or be a parameter that the
target of a lazy call spells out in its signature), and a value must be of the kind it replaces.
The grammar is hydra's, as in detectron2: ``key=value`` replaces, ``+key=value`` adds,
``++key=value`` does either, ``~key`` deletes.
"""

from __future__ import annotations

import difflib
import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from detectron2.utils.registry import locate
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, Node, OmegaConf
from omegaconf.errors import InterpolationKeyError, OmegaConfBaseException

from .config_file import read_config_file
from .errors import ConfigError

_TARGET = "_target_"
_ABSENT = object()


def load_config(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> DictConfig:
    """Loads a lazy config (``.py``, or the ``config.yaml`` a run leaves) and applies overrides.

    Args:
        path: the config file.
        overrides: command-line overrides, see the module's text for their grammar.

    Returns:
        The config. Nothing in it is instantiated yet.

    Raises:
        ConfigError: the file cannot be read, an unknown key, a value of the wrong kind, or a
            reference to what was deleted or to itself.
    """
    cfg = read_config_file(os.fspath(path))
    before = _dangling(cfg)
    for text in overrides:
        apply_override(cfg, text)
    for key, reference in sorted(_dangling(cfg).items() - before.items()):
        mend = f"keep that, give {key} a value of its own, or delete it too: '~{key}'"
        raise ConfigError(f"{key} refers to {reference}, which is not there any more; {mend}")
    return cfg


def _dangling(cfg: DictConfig) -> dict[str, str]:
    """Keys that refer to keys that do not exist, with what they say; a circle is refused."""
    found = {}
    for key, node in iterate_nodes(cfg):
        try:
            if node._is_interpolation():
                node._dereference_node()
        except InterpolationKeyError:
            found[key] = node._value()
        except (OmegaConfBaseException, RecursionError) as error:
            if isinstance(error, RecursionError) or "ecursive" in str(error):
                raise ConfigError(
                    f"{key} refers to itself through {node._value()}: give one of the circle a "
                    f"value of its own, {key}=..."
                ) from error
            # else what is required and not given yet
    return found


def apply_override(cfg: DictConfig, text: str) -> None:
    """Applies one override to ``cfg`` in place.

    Raises:
        ConfigError: the text cannot be read, its key is unknown (the message names the closest
            one), or its value is of another kind than the present one.
    """
    action, key, value = _parse(cfg, text)
    parent, name = _parent_of(cfg, key, text, create=action in ("add", "set_or_add"))
    present = _get(parent, name)
    if action == "delete":
        if present is _ABSENT:
            raise _unknown_key(cfg, parent, key, text)
        del parent[name]
        return
    if present is not _ABSENT:
        if action == "add":
            raise ConfigError(f"{text!r}: {key} exists already; write {text.lstrip('+')!r}")
        _replace(cfg, parent, name, key, present, value, text)
        return
    if isinstance(parent, ListConfig):
        raise _unknown_key(cfg, parent, key, text)
    spelt_out, takes_any = _signature(parent)
    if action == "set" and name not in spelt_out:
        raise _unknown_key(cfg, parent, key, text)
    if action != "set" and _TARGET in parent and name not in spelt_out and not takes_any:
        raise ConfigError(
            f"{text!r}: {_target_name(parent)} has no parameter {name!r}; it has "
            f"{', '.join(spelt_out) or 'none'}"
        )
    parent[name] = value


def _parse(cfg: DictConfig, text: str) -> tuple[str, str, Any]:
    """Reads an override into (action, dotted key, value)."""
    if text.startswith("-"):
        raise ConfigError(f"option {text!r} stands behind an override; options go before them")
    try:
        parsed = OverridesParser.create().parse_overrides([text])[0]
        if parsed.is_delete() and "=" in text:
            raise ConfigError(f"{text!r}: a deletion takes no value, write {text.split('=')[0]!r}")
        if not parsed.is_sweep_override():
            action = "delete" if parsed.is_delete() else "set"
            action = "add" if parsed.is_add() else action
            action = "set_or_add" if parsed.is_force_add() else action
            value = None if action == "delete" else parsed.value()
            return action, parsed.key_or_group.replace("/", "."), value
        reason = "it reads as several values"
    except HydraException as error:
        reason = str(error).splitlines()[0]
    # A path may hold brackets, commas or "=": where a text is replaced, what was typed is the text.
    key, sign, value = text.partition("=")
    if sign and isinstance(OmegaConf.select(cfg, key, default=None), str):
        return "set", key, value
    raise ConfigError(
        f"cannot read the override {text!r} ({reason}); write key=value, +key=value or ~key, and "
        f"put a value with special characters in quotes: key='\"value\"'"
    )


def _parent_of(
    cfg: DictConfig, key: str, text: str, create: bool
) -> tuple[DictConfig | ListConfig, str | int]:
    """Walks to the section that holds the last component of ``key``."""
    parts = key.split(".")
    node: DictConfig | ListConfig = cfg
    for depth, part in enumerate(parts[:-1]):
        name = _index(node, part)
        child = _get(node, name)
        if child is _ABSENT or (child is None and create):
            if not create or isinstance(node, ListConfig):
                raise _unknown_key(cfg, node, key, text)
            node[name] = {}
            child = node[name]
        if not OmegaConf.is_config(child):
            where = ".".join(parts[: depth + 1])
            raise ConfigError(
                f"{text!r}: {where} is {child!r} ({type(child).__name__}), not a section with keys"
            )
        node = child
    return node, _index(node, parts[-1])


def _index(node: DictConfig | ListConfig, part: str) -> str | int:
    return int(part) if isinstance(node, ListConfig) and part.lstrip("-").isdigit() else part


def _get(node: DictConfig | ListConfig, name: str | int) -> Any:
    """The present value, with interpolations resolved where they can be; or ``_ABSENT``."""
    if isinstance(node, ListConfig):
        if not isinstance(name, int) or not -len(node) <= name < len(node):
            return _ABSENT
    elif node._get_node(name) is None:
        return _ABSENT
    if OmegaConf.is_missing(node, name):
        return None
    try:
        return node[name]
    except OmegaConfBaseException:  # refers to a key that is only written later, or was deleted
        return None


def _replace(
    cfg: DictConfig,
    parent: DictConfig | ListConfig,
    name: str | int,
    key: str,
    present: Any,
    value: Any,
    text: str,
) -> None:
    """Writes ``value`` over ``present`` if it is of the same kind."""
    if isinstance(present, DictConfig) and isinstance(value, Mapping):
        for inner, inner_value in value.items():
            inner_present = _get(present, inner)
            if inner_present is _ABSENT and inner not in _signature(present)[0]:
                raise _unknown_key(cfg, present, f"{key}.{inner}", text)
            if inner_present is _ABSENT:
                present[inner] = inner_value
            else:
                _replace(cfg, present, inner, f"{key}.{inner}", inner_present, inner_value, text)
        return
    if name == _TARGET:
        if not _can_import(value):
            raise ConfigError(f"{text!r}: there is nothing to import at {value!r}")
    elif isinstance(present, str) and isinstance(value, (int, float)):
        value = text.partition("=")[2]  # digits typed for a text are a text: output_dir=2024
    elif not _is_same_kind(present, value) and not (
        _is_number(present) and _annotated_float(parent, name, value)
    ):
        raise ConfigError(
            f"{text!r}: {key} is {_kind(present)} (now {present!r}), but {value!r} is "
            f"{_kind(value)}; give {_kind(present)}"
        )
    parent[name] = float(value) if _is_number(value) and isinstance(present, float) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_same_kind(present: Any, value: Any) -> bool:
    if present is None or value is None:
        return True
    if isinstance(value, str) and "${" in value:
        return True
    if isinstance(present, bool) or isinstance(value, bool):
        return isinstance(present, bool) and isinstance(value, bool)
    if isinstance(present, float):
        return _is_number(value)
    if isinstance(present, (ListConfig, list, tuple)):
        return isinstance(value, (list, tuple))
    if isinstance(present, DictConfig):
        return _TARGET in present  # a lazy call stands for its result, of which nothing is known
    return isinstance(value, type(present))


def _annotated_float(parent: DictConfig | ListConfig, name: str | int, value: Any) -> bool:
    """A whole number in a config may stand for a float: ``weight=2`` of ``weight: float``."""
    if not _is_number(value) or isinstance(parent, ListConfig):
        return False
    parameter = _signature(parent)[0].get(str(name))
    return parameter is not None and "float" in str(parameter.annotation)


def _kind(value: Any) -> str:
    if isinstance(value, (ListConfig, list, tuple)):
        return "a list"
    if isinstance(value, (DictConfig, Mapping)):
        return "a section"
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    return names.get(type(value), f"a {type(value).__name__}")


def _signature(node: Any) -> tuple[dict[str, inspect.Parameter], bool]:
    """The parameters that a lazy call's target spells out, and whether it takes any others."""
    if not isinstance(node, DictConfig) or _TARGET not in node:
        return {}, True
    try:
        parameters = inspect.signature(_target(node)).parameters
    except (TypeError, ValueError):  # some builtins have no signature
        return {}, True
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    spelt_out = {name: p for name, p in parameters.items() if p.kind in named}
    return spelt_out, any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())


def _target(node: DictConfig) -> Callable[..., Any]:
    target = node[_TARGET]
    return locate(target) if isinstance(target, str) else target


def _can_import(path: Any) -> bool:
    try:
        return isinstance(path, str) and locate(path) is not None
    except ImportError:
        return False


def _target_name(node: DictConfig) -> str:
    target = node[_TARGET]
    return target if isinstance(target, str) else getattr(target, "__qualname__", str(target))


def iterate_nodes(cfg: DictConfig | ListConfig, prefix: str = "") -> Iterator[tuple[str, Node]]:
    """Yields every dotted key of a config with its node; interpolations are not resolved."""
    for name in range(len(cfg)) if isinstance(cfg, ListConfig) else list(cfg.keys()):
        child = cfg._get_node(name)
        yield f"{prefix}{name}", child
        special = child._is_none() or child._is_interpolation() or child._is_missing()
        if isinstance(child, (DictConfig, ListConfig)) and not special:
            yield from iterate_nodes(child, f"{prefix}{name}.")


def _unknown_key(
    cfg: DictConfig, parent: DictConfig | ListConfig, key: str, text: str
) -> ConfigError:
    """Says that a key does not exist, and which one was probably meant."""
    known = [name for name, _ in iterate_nodes(cfg) if not name.endswith(_TARGET)]
    section, _, last = key.rpartition(".")
    known += [f"{section}.{name}" for name in _signature(parent)[0] if section]
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.75)
    if not close:
        ends = {name.rpartition(".")[2]: name for name in reversed(known)}
        close = [ends[end] for end in difflib.get_close_matches(last, list(ends), n=1, cutoff=0.75)]
    hint = f"did you mean {close[0]}? " if close else ""
    return ConfigError(f"{text!r}: unknown config key {key}; {hint}(+{key}=... adds a new key)")
