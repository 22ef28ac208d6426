"""The error of bad data, and the lists that collect several defects."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["DatasetError", "Defects", "Finding", "Group", "GroupedDefects"]


class DatasetError(ValueError):
    """The data set cannot be used as it is; the message says what, where and how to mend it."""


@dataclass(frozen=True)
class Finding:
    """One defect.

    Attributes:
        where: the entry that it is in, "annotation 7 (image 3, a.jpg)".
        what: what is wrong, with the value.
        mend: what to do about it.
    """

    where: str
    what: str
    mend: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}; mend: {self.mend}"


class Defects:
    """Collects the defects of one file, so that one run shows them together.

    Args:
        source: the file that the defects are in.
        limit: how many are printed in full; the rest is only counted.
    """

    def __init__(self, source: str, limit: int = 10) -> None:
        self._source = source
        self._limit = limit
        self._shown: list[Finding] = []
        self._count = 0

    @property
    def limit(self) -> int:
        """How many defects are printed in full."""
        return self._limit

    @property
    def count(self) -> int:
        """How many defects there are."""
        return self._count

    def add(self, where: str, what: str, mend: str) -> None:
        """Notes one defect: the entry it is in, the value that is wrong, and the mend."""
        self._count += 1
        if len(self._shown) < self._limit:
            self._shown.append(Finding(_one_line(where), _one_line(what), _one_line(mend)))

    def raise_any(self) -> None:
        """Raises `DatasetError` with everything noted so far; does nothing without a defect."""
        if not self._count:
            return
        noun = "defect" if self._count == 1 else "defects"
        shown = f", the first {self._limit} are" if self._count > self._limit else ""
        lines = [f"  - {finding}" for finding in self._shown]
        raise DatasetError("\n".join([f"{self._source}: {self._count} {noun}{shown}:", *lines]))


@dataclass
class Group:
    """The defects of one kind: they are in the same sort of entry, and mended in the same way.

    Attributes:
        noun: the sort of entry, "annotation", "image", "category" or the name of a list.
        mend: what to do about them.
        count: how many there are.
        findings: the first of them.
    """

    noun: str
    mend: str
    count: int = 0
    findings: list[Finding] = field(default_factory=list)


class GroupedDefects(Defects):
    """Collects all defects of one file by kind.

    Args:
        source: the file that the defects are in.
        limit: how many of each kind are kept in full; the rest is only counted.
    """

    def __init__(self, source: str, limit: int = 5) -> None:
        super().__init__(source, limit)
        self._groups: dict[tuple[str, str], Group] = {}

    def groups(self) -> list[Group]:
        """The kinds, those with most defects first."""
        return sorted(self._groups.values(), key=lambda group: -group.count)

    def add(self, where: str, what: str, mend: str) -> None:
        super().add(where, what, mend)
        finding = Finding(_one_line(where), _one_line(what), _one_line(mend))
        noun = finding.where.split("[")[0].split(" ")[0]
        group = self._groups.setdefault((noun, finding.mend), Group(noun, finding.mend))
        group.count += 1
        if len(group.findings) < self.limit:
            group.findings.append(finding)


def _one_line(text: str) -> str:
    """The text with escapes in place of what a terminal cannot print, such as a line break."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
