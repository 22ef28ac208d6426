"""Everything that can be said of a data set at once: defects by kind, numbers, proposals."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Any

from .accepted import accepted_messages, check_rest
from .checks import check_choices, inspect
from .errors import DatasetError, Group, GroupedDefects
from .json_file import read_coco_json
from .layouts import COCO, Layout
from .proposals import Proposal, propose
from .statistics import Numbers, count_all

__all__ = ["DatasetReport", "examine"]


@dataclass(frozen=True)
class DatasetReport:
    """What a data set holds, and what is wrong with it.

    Attributes:
        json_file: path of the json.
        image_root: folder that the file names start from.
        defects: by kind, those with most first.
        notes: what is accepted, but used in part.
        numbers: counts of what is sound.
        proposals: values for a config.
    """

    json_file: str
    image_root: str
    defects: tuple[Group, ...]
    notes: tuple[str, ...]
    numbers: Numbers
    proposals: tuple[Proposal, ...]

    @property
    def num_defects(self) -> int:
        """All defects of all kinds."""
        return sum(group.count for group in self.defects)

    def as_dict(self) -> dict[str, Any]:
        """Everything in plain containers, for a json."""
        return {"num_defects": self.num_defects, **asdict(self)}


def examine(
    json_file: str | os.PathLike[str],
    image_root: str | os.PathLike[str],
    *,
    degenerate: str = "error",
    maskless: str = "keep",
    evaluation: bool = False,
    check_files: bool = True,
    layout: Layout = COCO,
    limit: int = 5,
) -> DatasetReport:
    """Looks at all of a data set, as `check_coco_json` does, and does not stop at defects.

    Args:
        json_file, image_root, degenerate, maskless, evaluation, check_files, layout: as there.
        limit: how many defects of each kind are kept in full.

    Raises:
        DatasetError: The json cannot be read at all, or an option is unknown.
    """
    check_choices(degenerate, maskless, evaluation)
    source = os.fspath(json_file)
    content = read_coco_json(json_file)
    defects = GroupedDefects(source, limit)
    lists, accepted = inspect(
        content,
        image_root,
        defects,
        degenerate=degenerate,
        maskless=maskless,
        evaluation=evaluation,
        check_files=check_files,
        layout=layout,
        image_key="the image folder",
    )
    notes = [line.removeprefix(f"{source}: ") for line in accepted_messages(source, accepted)]
    if not evaluation and not defects.count:
        left_out = frozenset(accepted.degenerate + accepted.without_mask)
        try:
            lines = check_rest(source, lists["annotations"], lists["categories"], left_out)
            notes += [line.removeprefix(f"{source}: ") for line in lines]
        except DatasetError as error:
            what, _, mend = str(error).removeprefix(f"{source}: ").partition("; mend: ")
            defects.add("json", what, mend)
    numbers = count_all(lists)
    return DatasetReport(
        json_file=source,
        image_root=os.fspath(image_root),
        defects=tuple(defects.groups()),
        notes=tuple(notes),
        numbers=numbers,
        proposals=tuple(propose(numbers, evaluation=evaluation)),
    )
