"""Training a part of the model while the rest stays as it is."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Sequence

from detectron2.engine import HookBase
from torch import nn

from ..errors import ConfigError

logger = logging.getLogger(__name__)


def freeze_parts(model: nn.Module, names: Sequence[str]) -> list[nn.Module]:
    """Takes the parameters of parts out of the training.

    Their parameters get no gradient, so the optimizer does not hold them. Dropout and running
    statistics are switched off by :class:`KeepFrozen`.

    Args:
        model: the model, not wrapped for several processes.
        names: dotted names of parts, such as ``backbone`` or ``heads.class_heads``.

    Returns:
        The parts.

    Raises:
        ConfigError: a name that no part has.
    """
    if isinstance(names, str):
        raise ConfigError(f"train.freeze is {names!r}: give a list, train.freeze=[{names}]")
    parts = dict(model.named_modules())
    for name in names:
        if not name or name not in parts:
            close = difflib.get_close_matches(str(name), list(parts), n=1)
            known = ", ".join(name for name, _ in model.named_children())
            hint = f"did you mean {close[0]}? " if close else ""
            raise ConfigError(
                f"train.freeze names {name!r}, but the model has no such part; {hint}its parts "
                f"are {known}, and what lies in them (backbone.stem)"
            )
        parts[name].requires_grad_(False)
    if names:
        logger.info("frozen: %s", ", ".join(names))
    return [parts[name] for name in names]


class KeepFrozen(HookBase):
    """Keeps parts in evaluation mode: no dropout, and running statistics stay.

    Before every step, because detectron2 puts the whole model in training mode at the beginning and
    after each evaluation.

    Args:
        parts: what :func:`freeze_parts` returned.
    """

    def __init__(self, parts: Sequence[nn.Module]):
        self.parts = list(parts)

    def before_step(self) -> None:
        for part in self.parts:
            part.eval()
