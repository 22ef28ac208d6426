"""Official code bases whose checkpoints are converted, and what their models can hold."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import CheckpointError
from .layout import Layout


@dataclass(frozen=True)
class Family:
    """A code base.

    Attributes:
        name: what it is called on the command line.
        mixed_selection: two-stage models may have learned query contents.
        mixed_supervision: decoder layers may have MS-DETR's auxiliary feed-forward, or
            one-to-many supervision class heads of its own.
        hybrid: its models may have more queries in training than they are deployed with.
    """

    name: str
    mixed_selection: bool = False
    mixed_supervision: bool = False
    hybrid: bool = False

    def check(self, layout: Layout) -> None:
        """Refuse a kind of model that this code base does not have.

        Raises:
            CheckpointError: with the family that has it; or no code base has it.
        """
        if layout.auxiliary and layout.own_classes:
            raise CheckpointError(
                "the model has both the auxiliary feed-forward of implementation (c) and the own "
                "class heads of (a); neither tree of the official code has both"
            )
        found = {
            "MS-DETR's one-to-many supervision": (
                (layout.auxiliary or layout.own_classes) and not self.mixed_supervision,
                ["ms-detr"],
            ),
            "mixed query selection": (
                layout.two_stage and layout.learned_queries and not self.mixed_selection,
                ["h-detr", "ms-detr"],
            ),
        }
        for what, (refused, families) in found.items():
            if refused:
                raise CheckpointError(
                    f"the model has {what}, which {self.name} does not have; use "
                    f"{' or '.join(families)}"
                )


FAMILIES = {
    family.name: family
    for family in (
        Family("ms-detr", mixed_selection=True, mixed_supervision=True),
        Family("deformable-detr"),
        Family("h-detr", mixed_selection=True, hybrid=True),
    )
}


def get_family(name: str) -> Family:
    """The family of this name.

    Raises:
        CheckpointError: there is none.
    """
    if name not in FAMILIES:
        raise CheckpointError(f"no family of models is called {name!r}; there are {list(FAMILIES)}")
    return FAMILIES[name]
