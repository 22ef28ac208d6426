"""Loading weights, with a table that says what came from the file and what is new."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from typing import Any

from tabulate import tabulate

from .safe_load import SafeCheckpointer

logger = logging.getLogger(__name__)


class ReportingCheckpointer(SafeCheckpointer):
    """The checkpointer of a run, which also logs a table of the model's parts.

    A line per part of the model tells how many of its tensors were loaded, how many are new (not in
    the file, or there of another shape: they keep their initial values), and how many tensors of
    the file have no place in the model.
    """

    def _load_model(self, checkpoint: Any) -> Any:
        model = getattr(self.model, "module", self.model)
        names = list(model.state_dict())
        incompatible = super()._load_model(checkpoint)
        # Tensors of another shape are among them: detectron2 takes them out of the file first.
        new = {name.removeprefix("module.") for name in incompatible.missing_keys}
        logger.info("weights by part:\n%s", parts_table(names, new, incompatible.unexpected_keys))
        return incompatible


def parts_table(names: Iterable[str], new: set[str], unused: Iterable[str]) -> str:
    """How many tensors of each part were loaded, are new, and were not used.

    Args:
        names: of all tensors of the model.
        new: of those that were not loaded.
        unused: of tensors of the file that the model does not have.
    """
    counts: dict[str, Counter[str]] = {}
    for name in names:
        part = counts.setdefault(name.partition(".")[0], Counter())
        part["new" if name in new else "loaded"] += 1
    for name in unused:
        counts.setdefault(name.removeprefix("module.").partition(".")[0], Counter())["unused"] += 1
    columns = ("loaded", "new", "unused")
    rows = [[part, *(count[column] for column in columns)] for part, count in counts.items()]
    return tabulate(rows, headers=["part", "loaded", "new", "not used"], tablefmt="pipe")
