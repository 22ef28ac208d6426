"""Checks of what a config hands to a component; messages name the argument and its value."""

from __future__ import annotations

import math
import reprlib
from numbers import Real
from typing import cast


def require_number(
    name: str, value: object, low: float, high: float = math.inf, *, above: bool = False
) -> None:
    """Checks a number.

    Args:
        name: what the message calls it.
        value: anything; truth values are no numbers.
        low, high: limits that the number may reach; infinity itself is never accepted.
        above: the number must be above ``low``.

    Raises:
        ValueError: another type, or out of the limits.
    """
    good = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if good and (low < value if above else low <= value) and value <= high:
        return
    if high == math.inf:
        wanted = f"a finite number {'above' if above else 'of at least'} {low:g}"
    else:
        wanted = f"a number in {'(' if above else '['}{low:g}, {high:g}]"
    raise ValueError(f"{name} must be {wanted}, got {value!r}")


def require_whole(name: str, value: object, low: int = 1) -> None:
    """Checks a count.

    Args:
        name: what the message calls it.
        value: anything; truth values are no numbers.
        low: the least that is accepted.

    Raises:
        ValueError: no whole number, or below ``low``.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise ValueError(f"{name} must be a whole number of at least {low}, got {value!r}")


def require_kind(name: str, value: object, kind: type, mend: str) -> None:
    """Checks that ``value`` is an instance of ``kind``.

    Args:
        name: what the message calls it.
        value: anything.
        kind: the class, which stands in the message as well.
        mend: end of the message: what to write instead.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(value, kind):
        found = " ".join(reprlib.repr(value).split())
        raise ValueError(
            f"{name} must be of class {kind.__name__}, got {found} ({type(value).__name__}); {mend}"
        )


def require_groups(owner: str, channels: object, groups: object) -> None:
    """Checks that a group normalisation can divide its channels.

    Args:
        owner: what has the normalisation, for the message.
        channels, groups: their numbers.

    Raises:
        ValueError: no whole numbers, or groups of different sizes.
    """
    require_whole(f"embed_dim of {owner}", channels)
    require_whole(f"num_groups of {owner}", groups)
    if cast(int, channels) % cast(int, groups):
        raise ValueError(
            f"num_groups of {owner} is {groups}, which does not divide its embed_dim, {channels}; "
            f"give a divisor, e.g. 32 groups of 256 channels"
        )
