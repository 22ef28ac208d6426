"""The set of supervisions of a detector."""

from __future__ import annotations

from torch import Tensor, nn

from ..errors import NonFiniteError
from ..structures import Targets
from .supervision import Supervision, TrainingOutputs


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
        super().__init__(supervisions)

    def forward(self, outputs: TrainingOutputs, targets: Targets) -> dict[str, Tensor]:
        """Weighted scalar losses by "<supervision>/<layer>/<term>"; their sum is the objective."""
        losses = {}
        for name, supervision in self.items():
            try:
                terms = supervision(outputs, targets)
            except NonFiniteError as error:
                raise NonFiniteError(f"supervision {name}, {error}") from error
            losses.update({f"{name}/{key}": loss for key, loss in terms.items()})
        return losses
