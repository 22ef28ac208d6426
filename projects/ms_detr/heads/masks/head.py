"""The interface of mask heads."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ...structures import FeaturePyramid


class MaskHead(nn.Module):
    """Predicts masks of chosen queries.

    The work is split: :meth:`pixels` is done once a batch, the rest for those queries only that
    somebody asks for, which are the matched ones in training and the kept ones at inference.

    Args:
        in_channels: name -> channels of the backbone's maps to use.
    """

    def __init__(self, in_channels: dict[str, int]):
        super().__init__()
        self.in_channels = dict(in_channels)

    def pixels(self, features: dict[str, Tensor], memory: FeaturePyramid) -> Any:
        """What all queries of the batch share.

        Args:
            features: the backbone's maps by name, (B, C, H, W).
            memory: of the encoder.

        Returns:
            Whatever :meth:`forward` wants to have.
        """
        raise NotImplementedError

    def forward(self, pixels: Any, states_PC: Tensor, image_P: Tensor, boxes_P4: Tensor) -> Tensor:
        """Logits (P, h, w) on the padded image.

        Args:
            pixels: of :meth:`pixels`.
            states_PC: states of the chosen queries; there may be none.
            image_P: image of each, int64; queries of one image should be neighbours.
            boxes_P4: box (cx, cy, w, h) of each, as fractions of the *padded* image.
        """
        raise NotImplementedError
