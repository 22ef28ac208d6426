"""The mask losses of a supervision."""

from __future__ import annotations

from torch import Tensor

from ..arguments import require_kind
from ..structures import Lesson
from ..structures.masks import sample_logits
from .mask import MaskTerm
from .points import MaskSamples, UncertainPoints


class MaskLosses:
    """Terms by name that compare the masks of pairs at the same points, in the last layer.

    ``MaskLosses(points=UncertainPoints(), mask=MaskCrossEntropy(5.0), dice=MaskDice(5.0))``.
    Masks are predicted for the pairs alone: memory grows with their number, not with that of the
    queries or of the slots. To know the number of one-to-many pairs, a device is waited for.

    Args:
        points: where masks are compared.
        terms: loss terms by name.

    Raises:
        ValueError: no term, or a part of another class.
    """

    def __init__(self, *, points: UncertainPoints, **terms: MaskTerm):
        mend = "write points={_target_: ms_detr.losses.UncertainPoints}"
        require_kind("points of MaskLosses", points, UncertainPoints, mend)
        if not terms:
            raise ValueError("MaskLosses needs at least one term, e.g. dice")
        for name, term in terms.items():
            mend = f"delete it with '~...masks.{name}', or give its weight: masks.{name}.weight=1"
            require_kind(f"mask term {name}", term, MaskTerm, mend)
        self.points, self.terms = points, terms

    def layers(self, num_layers: int) -> range:
        """Indices of the decoder layers whose masks are taught."""
        return range(num_layers - 1, num_layers)

    def __call__(self, lesson: Lesson, layer: int = 0) -> dict[str, Tensor]:
        """Weighted scalar losses of one layer by name."""
        samples = self.sample(lesson, layer)
        return {name: term.weight * term(samples) for name, term in self.terms.items()}

    def sample(self, lesson: Lesson, layer: int = 0) -> MaskSamples:
        """Predicted and true masks of a layer's pairs at points; other slots are left out.

        Raises:
            ValueError: there are no predicted or no true masks.
        """
        predictions, targets = lesson.predictions, lesson.targets
        if predictions.masks is None or targets.masks is None:
            raise ValueError(
                "mask losses need masks of predictions and of targets: the detector a mask head, "
                "and Targets.from_instances with_masks=True"
            )
        assignment = lesson.assignment.pairs_of_layer(layer, predictions.images)
        image_P = assignment.image_P
        logits_Phw = predictions.masks.of(image_P, assignment.query_P)
        extent_P2 = predictions.masks.extent_of(image_P)
        points_PR2 = self.points(logits_Phw, extent_P2)
        truth_PR = targets.masks.sample(assignment.target_P, points_PR2)
        logits_PR = sample_logits(logits_Phw[:, None], points_PR2, extent_P2)[:, 0]
        return MaskSamples(logits_PR, truth_PR, assignment.normalizer)


class EveryLayerMaskLosses(MaskLosses):
    """The same in every decoder layer."""

    def layers(self, num_layers: int) -> range:
        return range(num_layers)
