"""A supervision of the decoder's queries."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from torch import Tensor, nn

from ..arguments import require_kind, require_number
from ..assigners import Assigner, Merge, Steps
from ..heads import BoxHeads, ClassHeads
from ..losses import LossTerms, MaskLosses
from ..queries import QueryInitializer
from ..structures import (
    TAPS,
    Assignment,
    LayerPredictions,
    Lesson,
    Targets,
)
from .branches import LayerwiseFeedForward
from .outputs import TrainingOutputs
from .sources import QuerySource

# Class of every part, and a component to name in messages.
NEEDED: dict[str, tuple[type, str]] = {
    "terms": (LossTerms, "ms_detr.losses.LossTerms"),
}
OPTIONAL: dict[str, tuple[type, str]] = {
    "assigner": (Assigner, "ms_detr.assigners.HungarianAssigner"),
    "source": (QuerySource, "ms_detr.supervision.sources.OwnQueries"),
    "branch": (nn.Module, "ms_detr.supervision.LayerwiseFeedForward"),
    "class_heads": (ClassHeads, "ms_detr.heads.ClassHeads"),
    "box_heads": (BoxHeads, "ms_detr.heads.BoxHeads"),
    "merge": (Merge, "ms_detr.assigners.AppendMissing"),
    "masks": (MaskLosses, "ms_detr.losses.MaskLosses"),
}


class Supervision(nn.Module):
    """Teaches the query states of every decoder layer: tap -> branch -> heads -> assigner -> terms.

    One-to-one supervision is the Hungarian assigner at the tap "output"; MS-DETR's one-to-many
    supervision is a top-k assigner at either tap.

    Args:
        assigner: which query answers which object; None: the source of the queries knows.
        terms: loss terms.
        weight: factor of all terms.
        source: makes queries of the supervision's own, in training only; their group has the name
            of the supervision.
        group: name of the taught group of queries; None: that of the source, without one the
            detector's "primary" queries.
        tap: where in the layer the states are read: "output" or "internal" (between the two
            attentions, see :mod:`ms_detr.decoder.layers`).
        branch: called with (states, layer) before the heads; it exists in training only.
        class_heads, box_heads: own predictors, in training only; None: those of the detector.
        merge: adds the pairs of another supervision of the set to those of the assigner.
        masks: losses of the masks of the pairs; the detector needs a mask head then.

    Raises:
        ValueError: an unknown tap, or a part of another class.
    """

    def __init__(
        self,
        *,
        terms: LossTerms,
        assigner: Assigner | None = None,
        weight: float = 1.0,
        source: QuerySource | None = None,
        group: str | None = None,
        tap: str = "output",
        branch: nn.Module | None = None,
        class_heads: ClassHeads | None = None,
        box_heads: BoxHeads | None = None,
        merge: Merge | None = None,
        masks: MaskLosses | None = None,
    ):
        super().__init__()
        if tap not in TAPS:
            raise ValueError(f"a supervision reads tap {' or '.join(TAPS)}, not {tap!r}")
        require_number("weight of a supervision", weight, 0)
        check_parts(
            {
                "assigner": assigner,
                "terms": terms,
                "source": source,
                "branch": branch,
                "class_heads": class_heads,
                "box_heads": box_heads,
                "merge": merge,
                "masks": masks,
            }
        )
        twice = {name for name, _ in terms} & set(masks.terms if masks is not None else ())
        if twice:
            raise ValueError(f"terms and masks of a supervision both have {sorted(twice)}")
        self.assigner = assigner
        self.terms = terms
        self.weight = weight
        self.source = source
        self.group = group
        self.tap = tap
        self.branch = branch if branch is not None else Unchanged()
        self.class_heads = class_heads
        self.box_heads = box_heads
        self.merge = merge
        self.masks = masks

    def predict(self, outputs: TrainingOutputs) -> list[LayerPredictions]:
        """What the taught states of every layer predict."""
        return [
            self._predict_layer(outputs, self.branch(states, layer), layer)
            for layer, states in enumerate(outputs.states.taps[self.tap])
        ]

    def _predict_layer(
        self, outputs: TrainingOutputs, states_BNC: Tensor, layer: int
    ) -> LayerPredictions:
        predictions = outputs.heads(
            states_BNC,
            outputs.states.references[layer],
            layer,
            class_heads=self.class_heads,
            box_heads=self.box_heads,
        )
        return replace(
            predictions,
            masks=outputs.states.masks_of(states_BNC, predictions.boxes_BN4),
            blocks=outputs.blocks,
            counted_BN=outputs.counted_BN,
        )

    def prepare(self, outputs: TrainingOutputs, targets: Targets) -> Steps[Lesson]:
        """The lesson, in the steps of its assigner: see :func:`ms_detr.assigners.run_together`."""
        predictions = LayerPredictions.joined(self.predict(outputs))
        layers, objects = predictions.layers, len(targets.labels_G)
        in_layers = targets.in_layers(layers)
        if self.assigner is not None:
            assignment = yield from self.assigner.steps(predictions, in_layers)
        else:
            yield None
            # The set has made sure that the source of these queries knows.
            known = cast(Assignment, outputs.known)
            assignment = known.in_layers(layers, predictions.images, objects)
        return Lesson(predictions, in_layers, assignment)

    def losses(self, lesson: Lesson) -> dict[str, Tensor]:
        """Weighted scalar losses by "<layer>/<term>".

        Raises:
            ValueError: a term does not return one number per layer.
        """
        layers = lesson.predictions.layers
        of_terms = {}
        for name, term in self.terms:
            loss_D = term(lesson)
            if loss_D.shape != (layers,):
                raise ValueError(
                    f"term {name} ({type(term).__name__}) returned a tensor {tuple(loss_D.shape)}; "
                    f"a term returns one number per layer, here ({layers},)"
                )
            of_terms[name] = (self.weight * term.weight * loss_D).unbind()
        losses = {
            f"{layer}/{name}": of_layers[layer]
            for layer in range(layers)
            for name, of_layers in of_terms.items()
        }
        if self.masks is None:
            return losses
        for layer in self.masks.layers(layers):
            of_masks = self.masks(lesson, layer)
            losses |= {f"{layer}/{name}": self.weight * loss for name, loss in of_masks.items()}
        return losses

    def check_fit(
        self, key: str, num_classes: int, num_layers: int, queries: QueryInitializer
    ) -> None:
        """Compares own heads, branch and source with the detector.

        Args:
            key: key of the supervision in the config.
            num_classes: classes that the detector tells apart.
            num_layers: layers of its decoder.
            queries: what makes its queries.

        Raises:
            ValueError: another number of classes or layers, or queries that do not go together.
        """
        if self.source is not None:
            self.source.check_fit(f"{key}.source", num_classes, num_layers, queries)
        for head in self.class_heads or ():
            if isinstance(head, nn.Linear) and head.out_features != num_classes:
                raise ValueError(
                    f"{key}.class_heads.num_classes is {head.out_features}, but "
                    f"model.heads.num_classes is {num_classes}; make them equal"
                )
        check_layers(f"{key}.class_heads", self.class_heads, num_layers)
        check_layers(f"{key}.box_heads", self.box_heads, num_layers)
        if isinstance(self.branch, LayerwiseFeedForward) and len(self.branch.layers) != num_layers:
            raise ValueError(
                f"{key}.branch.num_layers is {len(self.branch.layers)}, but "
                f"model.decoder.num_layers is {num_layers}; make them equal"
            )


def check_parts(parts: dict[str, object]) -> None:
    """Raises ValueError for a part of a supervision that is of another class."""
    for name, part in parts.items():
        kind, example = (NEEDED | OPTIONAL)[name]
        mend = f"write {name}={{_target_: {example}, ...}}" + " or null" * (name in OPTIONAL)
        if part is not None or name in NEEDED:
            require_kind(f"{name} of a supervision", part, kind, mend)


def check_layers(key: str, heads: ClassHeads | BoxHeads | None, num_layers: int) -> None:
    """Raises ValueError unless there is a head for every decoder layer, or one for all of them."""
    if heads is not None and len(heads) not in (1, num_layers):
        raise ValueError(
            f"{key}.num_layers is {len(heads)}, but model.decoder.num_layers is {num_layers}; "
            f"make them equal, or give 1 head for all layers"
        )


class Unchanged(nn.Module):
    """The branch that does nothing."""

    def forward(self, states_BNC: Tensor, layer: int) -> Tensor:
        return states_BNC
