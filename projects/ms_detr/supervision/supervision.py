"""A supervision of the decoder's primary queries."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ..assigners import Assigner
from ..errors import NonFiniteError
from ..heads import PredictionHeads
from ..losses import LossTerms
from ..structures import (
    TAPS,
    Assignment,
    DecoderStates,
    LayerPredictions,
    Proposals,
    Targets,
)


@dataclass(frozen=True)
class TrainingOutputs:
    """Everything that a supervision may look at."""

    states: DecoderStates
    proposals: Proposals | None
    heads: PredictionHeads


class Supervision(nn.Module):
    """Teaches the query states of every decoder layer: tap -> branch -> heads -> assigner -> terms.

    One-to-one supervision is the Hungarian assigner at the tap "output"; MS-DETR's one-to-many
    supervision is a top-k assigner at either tap.  Both share the detector's heads.

    Args:
        assigner: which query answers which object.
        terms: loss terms.
        tap: where in the layer the states are read: "output" or "internal" (between the two
            attentions, see :mod:`ms_detr.decoder.layers`).
        branch: called with (states, layer) before the heads; it exists in training only.
    """

    def __init__(
        self,
        *,
        assigner: Assigner,
        terms: LossTerms,
        tap: str = "output",
        branch: nn.Module | None = None,
    ):
        super().__init__()
        if tap not in TAPS:
            raise ValueError(f"a supervision reads tap {' or '.join(TAPS)}, not {tap!r}")
        self.assigner = assigner
        self.terms = terms
        self.tap = tap
        self.branch = branch if branch is not None else Unchanged()

    def forward(self, outputs: TrainingOutputs, targets: Targets) -> dict[str, Tensor]:
        """Weighted scalar losses by "<layer>/<term>"."""
        losses = {}
        for layer, states in enumerate(outputs.states.taps[self.tap]):
            reference = outputs.states.references[layer]
            predictions = outputs.heads(self.branch(states, layer), reference, layer)
            assignment = assign(self.assigner, predictions, targets, layer)
            losses.update(weigh(self.terms, predictions, targets, assignment, layer))
        return losses


class Unchanged(nn.Module):
    """The branch that does nothing."""

    def forward(self, states_BNC: Tensor, layer: int) -> Tensor:
        return states_BNC


def assign(
    assigner: Assigner, predictions: LayerPredictions, targets: Targets, layer: int
) -> Assignment:
    """Call the assigner; a complaint about non-finite predictions names the layer."""
    try:
        return assigner(predictions, targets)
    except NonFiniteError as error:
        raise NonFiniteError(f"layer {layer}: {error}") from error


def weigh(
    terms: LossTerms,
    predictions: LayerPredictions,
    targets: Targets,
    assignment: Assignment,
    layer: int,
) -> dict[str, Tensor]:
    """Weighted losses of one layer by "<layer>/<term>"."""
    return {
        f"{layer}/{name}": term.weight * term(predictions, targets, assignment)
        for name, term in terms
    }
