"""The interface of auxiliary heads."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ...arguments import require_whole
from ...structures import LayerPredictions, Targets
from .maps import AuxiliaryMaps

# What stands in the place of an object.
BACKGROUND, UNUSED = -1, -2


@dataclass(frozen=True)
class Candidates:
    """Everything that a head has told apart into objects and background: who may become a query.

    Attributes:
        boxes_BA4: the box that a query would start from, in pixels, as corners.
        object_BA: the object of :class:`Targets` that the candidate is to find, ``BACKGROUND``, or
            ``UNUSED`` (neither: ignored, on padding, or there is no candidate in this place).
        tokens_BTC: features.
        token_A: which of the T features is the candidate's.
    """

    boxes_BA4: Tensor
    object_BA: Tensor
    tokens_BTC: Tensor
    token_A: Tensor


@dataclass(frozen=True)
class AuxiliaryOutput:
    """What a head makes of a batch.

    Attributes:
        losses: weighted scalars by term.
        candidates: who may become a query.
    """

    losses: dict[str, Tensor]
    candidates: Candidates


class AuxiliaryHead(nn.Module):
    """A detection head with one-to-many assignment on the encoder's output (Co-DETR, 3.2).

    It exists in training only: it teaches the encoder by losses of its own, and its positives
    become queries of the decoder.

    Args:
        num_classes: classes of the detector.
        embed_dim: channels of the maps.
    """

    def __init__(self, num_classes: int, embed_dim: int):
        super().__init__()
        require_whole(f"num_classes of {type(self).__name__}", num_classes)
        self.num_classes, self.embed_dim = num_classes, embed_dim

    def forward(self, pyramid: AuxiliaryMaps, targets: Targets) -> AuxiliaryOutput:
        """Losses and candidates of a batch; also without any object."""
        raise NotImplementedError

    def predict(self, pyramid: AuxiliaryMaps) -> LayerPredictions:
        """What the head would detect by itself, as predictions that a ``Postprocess`` takes.

        Sigmoids of the logits are scores; boxes are fractions of the image.
        """
        raise NotImplementedError
