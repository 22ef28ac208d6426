"""The error of bad data, and the list that collects several defects into one of it."""

from __future__ import annotations

__all__ = ["DatasetError", "Defects"]


class DatasetError(ValueError):
    """The data set cannot be used as it is; the message says what, where and how to mend it."""


class Defects:
    """Collects the defects of one file, so that one run shows them together.

    Args:
        source: the file that the defects are in.
        limit: how many are printed in full; the rest is only counted.
    """

    def __init__(self, source: str, limit: int = 10) -> None:
        self._source = source
        self._limit = limit
        self._lines: list[str] = []
        self._count = 0

    @property
    def limit(self) -> int:
        """How many defects are printed in full."""
        return self._limit

    def add(self, where: str, what: str, mend: str) -> None:
        """Notes one defect: the entry it is in, the value that is wrong, and the mend."""
        self._count += 1
        if len(self._lines) < self._limit:
            self._lines.append(f"  - {where}: {what}; mend: {mend}")

    def raise_any(self) -> None:
        """Raises `DatasetError` with everything noted so far; does nothing without a defect."""
        if not self._count:
            return
        noun = "defect" if self._count == 1 else "defects"
        shown = f", the first {self._limit} are" if self._count > self._limit else ""
        raise DatasetError(
            "\n".join([f"{self._source}: {self._count} {noun}{shown}:", *self._lines])
        )
