"""The set of supervisions of a detector."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import cast

from torch import Tensor, nn

from ..arguments import require_kind
from ..assigners import HungarianAssigner
from ..errors import NonFiniteError
from ..structures import Targets
from .proposals import ProposalSupervision
from .supervision import Lesson, Supervision, TrainingOutputs


class SupervisionSet(nn.ModuleDict):
    """Supervisions by name; entries are added, edited and deleted in the config.

    Deleting the whole set changes nothing at inference; its parameters are those that a deployed
    model does not need.
    """

    def __init__(self, **supervisions: Supervision):
        if not supervisions:
            raise ValueError(
                "a detector needs at least one supervision, e.g. model.supervisions.one_to_one"
            )
        for name, supervision in supervisions.items():
            mend = f"to leave it out, delete it: '~model.supervisions.{name}'"
            require_kind(f"model.supervisions.{name}", supervision, Supervision, mend)
        super().__init__(supervisions)
        for name, supervision in supervisions.items():
            if supervision.merge is not None:
                self._check_source(name, supervision.merge.source)

    def forward(self, outputs: TrainingOutputs, targets: Targets) -> dict[str, Tensor]:
        """Weighted scalar losses by "<supervision>/<layer>/<term>"; their sum is the objective."""
        lessons = self.prepare(outputs, targets)
        return {
            f"{name}/{key}": loss
            for name, supervision in self.named()
            for key, loss in supervision.losses(lessons[name]).items()
        }

    def named(self) -> Iterator[tuple[str, Supervision]]:
        """The supervisions by name."""
        for name, supervision in self.items():
            yield name, cast(Supervision, supervision)

    def prepare(self, outputs: TrainingOutputs, targets: Targets) -> dict[str, list[Lesson]]:
        """The lessons of every supervision, by its name; merges come after all assignments."""
        lessons = {}
        for name, supervision in self.named():
            try:
                lessons[name] = supervision.prepare(outputs, targets)
            except NonFiniteError as error:
                raise NonFiniteError(f"supervision {name}, {error}") from error
        return {
            name: self._merged(supervision, lessons[name], lessons)
            for name, supervision in self.named()
        }

    @staticmethod
    def _merged(
        supervision: Supervision, own: list[Lesson], all_lessons: dict[str, list[Lesson]]
    ) -> list[Lesson]:
        if supervision.merge is None:
            return own
        return [
            replace(
                lesson,
                assignment=supervision.merge(
                    lesson.assignment, other.assignment, lesson.predictions
                ),
            )
            for lesson, other in zip(own, all_lessons[supervision.merge.source], strict=True)
        ]

    def check_fit(self, num_classes: int, num_layers: int) -> None:
        """Raises ValueError for heads or branches that do not fit the detector.

        Args:
            num_classes: classes that the detector tells apart.
            num_layers: layers of its decoder.
        """
        for name, supervision in self.named():
            supervision.check_fit(f"model.supervisions.{name}", num_classes, num_layers)

    def teaches_masks(self) -> bool:
        """Whether some supervision has losses for masks."""
        return any(supervision.masks is not None for _, supervision in self.named())

    def _check_source(self, name: str, source: str) -> None:
        mergeable = [
            other
            for other, supervision in self.named()
            if other != name
            and not isinstance(supervision, ProposalSupervision)
            and isinstance(supervision.assigner, HungarianAssigner)
        ]
        if source not in mergeable:
            raise ValueError(
                f"model.supervisions.{name}.merge.source is {source!r}; one-to-one pairs are "
                f"merged, so it must name another supervision of the decoder's queries with a "
                f"HungarianAssigner: {', '.join(mergeable) or 'there is none'}"
            )
