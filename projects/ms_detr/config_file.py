"""Reading and saving the file of a lazy config; errors name the file, the line and the mend."""

from __future__ import annotations

import os
import traceback
from pathlib import Path
from typing import Any

import yaml
from detectron2.config import LazyConfig
from detectron2.utils.registry import _convert_target_to_string
from omegaconf import DictConfig, OmegaConf, SCMode

from .data.errors import DatasetError
from .errors import ConfigError

__all__ = ["read_config_file", "save_config"]

# Values that saving a config writes down in this way; all other tags build objects or call.
_PLAIN_TAGS = ("tuple", "name:", "none", "bool", "str", "bytes", "int", "float", "complex")
_PYTHON = "tag:yaml.org,2002:python/"


def read_config_file(path: str) -> DictConfig:
    """Reads a lazy config, ``.py`` or the ``config.yaml`` that a run leaves.

    A ``.py`` is a program, and is run. A ``.yaml`` may name what a run will build (``_target_``),
    but runs nothing while it is read.

    Raises:
        ConfigError: there is no such file, or it cannot be read; the message names the line.
        DatasetError: the config reads data that cannot be used.
    """
    if not path:
        raise ConfigError("no config file given: pass --config-file configs/....py")
    if os.path.isdir(path):
        raise ConfigError(f"config file {path!r} is a folder; give a .py or .yaml in it")
    if not os.path.exists(path):
        raise ConfigError(f"config file {path!r} does not exist (working directory {os.getcwd()})")
    if not os.path.isfile(path):
        raise ConfigError(f"config file {path!r} is a pipe or a device; give a .py or .yaml file")
    if not path.endswith((".py", ".yaml", ".yml")):
        raise ConfigError(f"config file {path!r} is neither .py nor .yaml; give one that is")
    try:
        if not path.endswith(".py"):
            _refuse_objects(path)
        cfg = LazyConfig.load(path)
    except (ConfigError, DatasetError):
        raise
    except RecursionError as error:
        raise ConfigError(
            f"config file {path!r} imports itself, perhaps through another; break the circle"
        ) from error
    except Exception as error:  # a config is a program, which may raise anything
        raise ConfigError(_explain(path, error)) from error
    if not isinstance(cfg, DictConfig) or not cfg:
        kind = "nothing" if not cfg else f"a {type(cfg).__name__}"
        raise ConfigError(
            f"config file {path!r} holds {kind}, not a config; it needs the keys model, "
            "dataloader, optimizer, lr_multiplier and train"
        )
    return cfg


def save_config(cfg: DictConfig, path: str) -> None:
    """Saves a config as a ``.yaml`` that :func:`read_config_file` reads.

    Unlike with detectron2's ``LazyConfig.save`` keys keep their order: that of
    ``model.supervisions`` is the order in which weights are drawn.  What no yaml can hold is left
    to it.
    """
    content = OmegaConf.to_container(cfg, resolve=False, structured_config_mode=SCMode.INSTANTIATE)
    try:
        text = yaml.dump(
            _with_names(content),
            sort_keys=False,
            default_flow_style=None,
            allow_unicode=True,
            width=9999,
        )
    except (yaml.YAMLError, TypeError, ValueError):
        LazyConfig.save(cfg, path)
        return
    Path(path).write_text(text, encoding="utf-8")


def _with_names(content: Any) -> Any:
    """The same with names in the place of what lazy calls will call."""
    if isinstance(content, list):
        return [_with_names(value) for value in content]
    if not isinstance(content, dict):
        return content
    named = {key: _with_names(value) for key, value in content.items()}
    if callable(named.get("_target_")):
        named["_target_"] = _convert_target_to_string(named["_target_"])
    return named


def _refuse_objects(path: str) -> None:
    """Refuses a yaml that builds objects or calls functions while it is read."""
    with open(path, encoding="utf-8") as file:
        for event in yaml.parse(file, Loader=yaml.SafeLoader):
            tag = getattr(event, "tag", None) or ""
            if tag.startswith(_PYTHON) and not tag[len(_PYTHON) :].startswith(_PLAIN_TAGS):
                raise ConfigError(
                    f"config file {path!r} asks for !!python/{tag[len(_PYTHON) :]} in line "
                    f"{event.start_mark.line + 1}, and was not read: a .yaml must not run code. "
                    "Remove the tag, or write the config as a .py if you trust it"
                )


def _explain(path: str, error: Exception) -> str:
    if isinstance(error, yaml.YAMLError):
        return (
            f"config file {path!r} is no yaml: {' '.join(str(error).split())[:200]}; correct it, "
            "or give the .py that it was made of"
        )
    cause = error.__cause__ or error
    if isinstance(cause, SyntaxError):
        inner = cause.filename or ""
        where = f"line {cause.lineno or 1} of {inner if os.path.isfile(inner) else path}"
        return f"config file {path!r} has a syntax error in {where}: {cause.msg}; correct it"
    if isinstance(error, UnicodeDecodeError):
        return (
            f"config file {path!r} is not UTF-8 ({error.reason} at byte {error.start}); save it as "
            "UTF-8"
        )
    lines = [
        f"line {frame.lineno} of {frame.filename}"
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.name == "<module>" and Path(frame.filename).suffix == ".py"
    ]
    where = f" in {lines[-1]}" if lines else ""
    reason = " ".join(str(error).split())[:300] or "no reason given"
    return (
        f"config file {path!r} cannot be loaded{where} ({type(error).__name__}: {reason}); "
        "correct that line"
    )
