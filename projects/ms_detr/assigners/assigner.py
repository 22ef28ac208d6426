"""The interface of assigners."""

from __future__ import annotations

from ..structures import Assignment, LayerPredictions, Targets


class Assigner:
    """Decides which query answers which object, without gradients.

    Losses are divided by the number of objects (:attr:`Targets.num_boxes`), as in the published
    code, for one-to-one and one-to-many alike.
    """

    def __call__(self, predictions: LayerPredictions, targets: Targets) -> Assignment:
        """Assign.

        Args:
            predictions: of one decoder layer, or of the encoder's tokens.
            targets: objects of the batch.
        """
        raise NotImplementedError
