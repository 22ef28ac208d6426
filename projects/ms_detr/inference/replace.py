"""Exchange of modules inside of others."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import nn

Kind = TypeVar("Kind", bound=nn.Module)


def replace_modules(root: nn.Module, kind: type[Kind], make: Callable[[Kind], nn.Module]) -> None:
    """Put ``make(module)`` in the place of every module below ``root`` that is a ``kind``.

    Subclasses of ``kind`` stay, for they may do something else.  A module in two places is replaced
    by one module.
    """
    made: dict[nn.Module, nn.Module] = {}
    for parent in list(root.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is kind:
                if child not in made:
                    made[child] = make(child)
                setattr(parent, name, made[child])
