"""The set of supervisions of a detector."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import cast

from torch import Tensor, nn

from ..arguments import require_kind
from ..assigners import HungarianAssigner, Steps, run_together
from ..errors import NonFiniteError
from ..queries import QueryInitializer
from ..structures import FeaturePyramid, Lesson, Targets
from ..structures.query_groups import PRIMARY
from .auxiliary import AuxiliaryMaps, MultiScaleAdapter
from .outputs import TrainingOutputs
from .proposals import ProposalSupervision
from .sources import ExtraQueries, QuerySource, SourceContext
from .supervision import Supervision

_GIVE_ADAPTER = (
    "give model.supervisions.adapter, e.g. "
    "{_target_: ms_detr.supervision.auxiliary.CoarserLevel, ...}"
)


class SupervisionSet(nn.ModuleDict):
    """Supervisions by name; entries are added, edited and deleted in the config.

    Deleting the whole set changes nothing at inference; its parameters are those that a deployed
    model does not need.

    One entry is no supervision, and :meth:`named` passes it over: what makes the maps that the
    auxiliary heads of all sources look at.

    Args:
        adapter: memory to these maps; None where no source reads them.
        supervisions: by name.

    Raises:
        ValueError: parts of another class, or that do not fit each other.
    """

    def __init__(self, adapter: MultiScaleAdapter | None = None, **supervisions: Supervision):
        if not supervisions:
            raise ValueError(
                "a detector needs at least one supervision, e.g. model.supervisions.one_to_one"
            )
        for name, supervision in supervisions.items():
            mend = f"to leave it out, delete it: '~model.supervisions.{name}'"
            require_kind(f"model.supervisions.{name}", supervision, Supervision, mend)
        super().__init__(supervisions)
        self.adapter = adapter
        self._check_adapter()
        for name, supervision in supervisions.items():
            self._check_group(name)
            self._check_assigner(name, supervision)
            if supervision.merge is not None:
                self._check_merged(name, supervision.merge.source)

    def extra_queries(self, context: SourceContext) -> dict[str, ExtraQueries]:
        """What the sources make, by the name of their supervision."""
        sources = self._sources()
        if any(source.reads_maps for source in sources.values()):
            context = replace(context, pyramid=self.pyramid(context.memory, context.sizes))
        return {name: source(context) for name, source in sources.items()}

    def pyramid(self, memory: FeaturePyramid, sizes: Sequence[tuple[int, int]]) -> AuxiliaryMaps:
        """The memory as maps for auxiliary heads.

        Args:
            memory: the encoder's output.
            sizes: (height, width) of every image without padding, in pixels.

        Raises:
            ValueError: there is no adapter.
        """
        if self.adapter is None:
            raise ValueError(f"nothing makes maps of the memory; {_GIVE_ADAPTER}")
        return AuxiliaryMaps(self.adapter(memory), self.adapter.strides, tuple(sizes))

    def forward(
        self, outputs: Mapping[str, TrainingOutputs], targets: Targets
    ) -> dict[str, Tensor]:
        """Weighted scalar losses by "<supervision>/<layer>/<term>"; their sum is the objective.

        Losses of sources have "encoder" in the place of the layer.

        Args:
            outputs: of every group of queries, by its name.
            targets: objects of the batch.
        """
        lessons = self.prepare(outputs, targets)
        losses = {
            f"{name}/{key}": loss
            for name, supervision in self.named()
            for key, loss in supervision.losses(lessons[name]).items()
        }
        of_sources = {
            f"{name}/encoder/{term}": loss
            for name, group in outputs.items()
            for term, loss in group.losses.items()
        }
        return losses | of_sources

    def named(self) -> Iterator[tuple[str, Supervision]]:
        """The supervisions by name."""
        for name, entry in self.items():
            if isinstance(entry, Supervision):
                yield name, entry

    def _sources(self) -> dict[str, QuerySource]:
        return {
            name: supervision.source
            for name, supervision in self.named()
            if supervision.source is not None
        }

    def prepare(
        self, outputs: Mapping[str, TrainingOutputs], targets: Targets
    ) -> dict[str, Lesson]:
        """The lesson of every supervision, by its name; the host waits once for all of them.

        Merges come after all assignments.
        """
        lessons = run_together(
            {
                name: _named(name, supervision.prepare(outputs[self.group_of(name)], targets))
                for name, supervision in self.named()
            }
        )
        return {
            name: self._merged(supervision, lessons[name], lessons)
            for name, supervision in self.named()
        }

    def group_of(self, name: str) -> str:
        """Name of the group of queries that a supervision teaches."""
        supervision = cast(Supervision, self[name])
        return supervision.group or (name if supervision.source is not None else PRIMARY)

    @staticmethod
    def _merged(supervision: Supervision, own: Lesson, all_lessons: Mapping[str, Lesson]) -> Lesson:
        if supervision.merge is None:
            return own
        other = all_lessons[supervision.merge.source]
        return replace(
            own, assignment=supervision.merge(own.assignment, other.assignment, own.predictions)
        )

    def check_fit(self, num_classes: int, num_layers: int, queries: QueryInitializer) -> None:
        """Raises ValueError for heads, branches or sources that do not fit the detector.

        Args:
            num_classes: classes that the detector tells apart.
            num_layers: layers of its decoder.
            queries: what makes its queries.
        """
        for name, supervision in self.named():
            supervision.check_fit(f"model.supervisions.{name}", num_classes, num_layers, queries)

    def teaches_masks(self) -> bool:
        """Whether some supervision has losses for masks."""
        return any(supervision.masks is not None for _, supervision in self.named())

    def _check_adapter(self) -> None:
        readers = [name for name, source in self._sources().items() if source.reads_maps]
        if self.adapter is None:
            if readers:
                raise ValueError(
                    f"model.supervisions.{readers[0]}.source reads maps of the encoder's output, "
                    f"but nothing makes them; {_GIVE_ADAPTER}"
                )
            return
        mend = f"{_GIVE_ADAPTER}, or delete it: '~model.supervisions.adapter'"
        require_kind("model.supervisions.adapter", self.adapter, MultiScaleAdapter, mend)
        if not readers:
            raise ValueError(
                "model.supervisions.adapter makes maps that no source reads; delete it: "
                "'~model.supervisions.adapter', or add an entry with a CollaborativeQueries source"
            )
        for name in readers:
            head = getattr(self._sources()[name], "head", None)
            width = getattr(head, "embed_dim", self.adapter.embed_dim)
            if width != self.adapter.embed_dim:
                raise ValueError(
                    f"model.supervisions.{name}.source.head.embed_dim is {width}, but the maps of "
                    f"model.supervisions.adapter have {self.adapter.embed_dim} channels; make them "
                    f"equal"
                )

    def _check_group(self, name: str) -> None:
        groups = list(self._sources())
        offered = ", ".join(groups) or "there is none"
        if name == PRIMARY:
            raise ValueError(
                f"a supervision cannot be called {PRIMARY!r}, which are the detector's own queries"
            )
        if self.group_of(name) not in (PRIMARY, *groups):
            raise ValueError(
                f"model.supervisions.{name}.group is {self.group_of(name)!r}; it must be "
                f"{PRIMARY!r} or a supervision with a source: {offered}"
            )

    def _check_assigner(self, name: str, supervision: Supervision) -> None:
        if supervision.assigner is not None:
            return
        owner = self[group] if (group := self.group_of(name)) in self else None
        source = owner.source if isinstance(owner, Supervision) else None
        knows = source is not None and source.knows
        if not knows or isinstance(supervision, ProposalSupervision):
            raise ValueError(
                f"model.supervisions.{name}.assigner is None, but nobody knows the objects of "
                f"its queries ({group}); give it an assigner, e.g. "
                f"{{_target_: ms_detr.assigners.HungarianAssigner, ...}}, or a source that knows, "
                f"e.g. ms_detr.supervision.sources.NoisedBoxes"
            )

    def _check_merged(self, name: str, source: str) -> None:
        mergeable = [
            other
            for other, supervision in self.named()
            if other != name
            and not isinstance(supervision, ProposalSupervision)
            and isinstance(supervision.assigner, HungarianAssigner)
            and self.group_of(other) == self.group_of(name)
        ]
        if source not in mergeable:
            raise ValueError(
                f"model.supervisions.{name}.merge.source is {source!r}; one-to-one pairs are "
                f"merged, so it must name another supervision of the same queries with a "
                f"HungarianAssigner: {', '.join(mergeable) or 'there is none'}"
            )


def _named(name: str, steps: Steps[Lesson]) -> Steps[Lesson]:
    """The same steps; a complaint about non-finite predictions names the supervision."""
    try:
        return (yield from steps)
    except NonFiniteError as error:
        raise NonFiniteError(f"supervision {name}, {error}") from error
