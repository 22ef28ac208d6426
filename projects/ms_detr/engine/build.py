"""Building the parts of a config and loading weights, with errors that name the key or the file."""

from __future__ import annotations

import logging
import pickle
import re
from typing import Any

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import instantiate
from omegaconf import DictConfig, ListConfig

from ..convert.errors import CheckpointError
from ..data.errors import DatasetError
from ..errors import ConfigError

logger = logging.getLogger(__name__)

# What torch.load, pickle and detectron2 raise for a file that is no checkpoint, or not of this
# model or optimizer.
_LOAD_ERRORS = (
    pickle.UnpicklingError, EOFError, OSError, RuntimeError, ValueError, TypeError, KeyError,
    AttributeError, ImportError, AssertionError,
)  # fmt: skip


def build(node: Any, key: str) -> Any:
    """Instantiates a part of the config.

    Args:
        node: a lazy call.
        key: its key, for the message.

    Raises:
        ConfigError: a component refuses its arguments. The traceback is logged at level debug.
        DatasetError: as it comes, its message names the file.
    """
    try:
        return instantiate(node)
    except (ConfigError, DatasetError):
        raise
    except (ValueError, TypeError) as error:
        logger.debug("building %s failed", key, exc_info=True)
        where = _refusing_key(node, key)
        if unknown := re.search(r"got an unexpected keyword argument '(\w+)'", str(error)):
            name = unknown[1]
            reason = f"it takes no {name}; take that out: '~{where}.{name}'"
        else:
            reason = str(error)
        raise ConfigError(f"{where} cannot be built: {reason}") from error


def _refusing_key(node: Any, key: str) -> str:
    """The key of the innermost part that cannot be built: parts are built again, one by one."""
    if isinstance(node, DictConfig):
        children = [(f"{key}.{name}", node.get(name)) for name in node]
    elif isinstance(node, ListConfig):
        children = [(f"{key}[{index}]", child) for index, child in enumerate(node)]
    else:
        return key
    for name, child in children:
        try:
            instantiate(child)
        except (ValueError, TypeError):
            return _refusing_key(child, name)
    return key


def load_weights(
    checkpointer: DetectionCheckpointer, path: str, resume: bool = False
) -> dict[str, Any]:
    """Loads a checkpoint, or with ``resume`` the last sound one of the run if there are any.

    Returns:
        What the file holds beside the model and, with ``resume``, the trainer.

    Raises:
        ConfigError: the file is not a checkpoint, or not one that fits.
    """
    source = "train.init_checkpoint"
    if resume and checkpointer.has_checkpoint():
        path, source = checkpointer.save_dir, "--resume"
    try:
        return checkpointer.resume_or_load(path, resume=resume)
    except ConfigError:
        raise
    except _LOAD_ERRORS as error:
        logger.debug("loading %s failed", path, exc_info=True)
        reason = (str(error).strip() or "no reason given").splitlines()[0]
        if not isinstance(error, CheckpointError):  # which says all that is needed, and a mend
            reason = f"{type(error).__name__}: {reason[:200]}"
        raise ConfigError(
            f"{source}: {path!r} cannot be loaded as a checkpoint of this model ({reason}); give a "
            f".pth that training saved, or a .pkl of detectron2's model zoo"
        ) from error
