"""Sine position embeddings (Attention Is All You Need, in the normalised form of DETR)."""

import math

import torch
from torch import Tensor, nn


def sine_features(x: Tensor, num_features: int, temperature: float) -> Tensor:
    """Sines and cosines, interleaved, of a coordinate at geometrically spaced frequencies.

    Args:
        x: (...), coordinate in [0, 1].
        num_features: even number of channels.
        temperature: ratio of the longest to the shortest wave length.

    Returns:
        (..., num_features) in the dtype of ``x``.
    """
    exponent = torch.arange(0, num_features, 2, dtype=x.dtype, device=x.device) / num_features
    angle = x[..., None] * (2 * math.pi) / temperature**exponent
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(-2)


def reference_features(reference_BNr: Tensor, num_features: int, temperature: float) -> Tensor:
    """Sine features of reference points or boxes, comparable with :class:`SinePosition`.

    Args:
        reference_BNr: points (x, y) or boxes (cx, cy, w, h).
        num_features: even number of channels per coordinate.
        temperature: see :func:`sine_features`.

    Returns:
        (B, N, r * num_features): first y, then x, as in the embedding of cells, then w and h.
    """
    x, y, size = reference_BNr[..., :1], reference_BNr[..., 1:2], reference_BNr[..., 2:]
    return sine_features(torch.cat([y, x, size], -1), num_features, temperature).flatten(-2)


class SinePosition(nn.Module):
    """Position embedding of the cells of one feature map: half of the channels for y, half for x.

    Coordinates are fractions of the unpadded image, so an embedding does not depend on how much
    padding a batch needs.  A cell lies where its centre is (Deformable DETR).

    Args:
        embed_dim: channels, divisible by 4.
        temperature: see :func:`sine_features`.
    """

    # Distance of a cell's place from its lower right corner, in cells.
    from_corner = 0.5

    def __init__(self, embed_dim: int, temperature: float = 10000.0):
        super().__init__()
        if embed_dim % 4:
            raise ValueError(f"embed_dim of SinePosition must be divisible by 4, got {embed_dim}")
        self.num_features = embed_dim // 2
        self.temperature = temperature

    def forward(self, valid_B2: Tensor, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
        """Embed a map.

        Args:
            valid_B2: (width, height) of the part that is image, in cells.
            shape: (height, width) of the map.
            dtype: of the result.

        Returns:
            (B, height * width, embed_dim).
        """
        height, width = shape
        y_BHF = self._axis(valid_B2[:, 1:], height, dtype)
        x_BWF = self._axis(valid_B2[:, :1], width, dtype)
        y = y_BHF[:, :, None].expand(-1, -1, width, -1)
        x = x_BWF[:, None].expand(-1, height, -1, -1)
        return torch.cat([y, x], -1).flatten(1, 2)

    def _axis(self, valid_B1: Tensor, length: int, dtype: torch.dtype) -> Tensor:
        cells = torch.arange(1, length + 1, device=valid_B1.device)
        # Cells on padding repeat the last coordinate: finite, and never attended to.
        position = torch.minimum(cells, valid_B1).to(dtype) - self.from_corner
        return sine_features(
            position / (valid_B1.to(dtype) + 1e-6), self.num_features, self.temperature
        )


class CornerSinePosition(SinePosition):
    """The same with a cell at its lower right corner: DETR, its one-level descendants, and DINO."""

    from_corner = 0.0
