"""What queries made of boxes say: embeddings of the boxes and of the features there."""

from __future__ import annotations

from torch import Tensor, nn

from ...layers import sine_features


class BoxEmbedding(nn.Module):
    """Contents from the sine features of boxes: a linear layer and a LayerNorm (Co-DETR, eq. 4).

    For queries whose positions the decoder makes from their references.  The LayerNorm is that of
    the released code.  Every auxiliary head has an embedding of its own, and so a vector of its
    own: the bias of the LayerNorm.

    Args:
        embed_dim: channels.
        temperature: of the sine features.
    """

    positioned = False
    _PARTS = 1

    def __init__(self, *, embed_dim: int = 256, temperature: float = 10000.0):
        super().__init__()
        self.features = embed_dim // 2
        self.temperature = temperature
        self.projection, self.norm = projected(4 * self.features, self._PARTS * embed_dim)

    def forward(self, boxes_BN4: Tensor) -> tuple[Tensor, Tensor | None]:
        """Contents (B, N, C) and positions (B, N, C) of boxes in fractions of the image."""
        return self.embedded(boxes_BN4), None

    def embedded(self, boxes_BN4: Tensor) -> Tensor:
        """All channels that are made of the boxes."""
        features = sine_features(boxes_BN4, self.features, self.temperature).flatten(-2)
        embedded: Tensor = self.norm(self.projection(features.to(self.projection.weight.dtype)))
        return embedded


class PositionedBoxEmbedding(BoxEmbedding):
    """The same with positions: half of the channels, as those of two-stage queries.

    For queries that bring their positions.

    Args:
        embed_dim, temperature: see :class:`BoxEmbedding`.
    """

    positioned = True
    _PARTS = 2

    def forward(self, boxes_BN4: Tensor) -> tuple[Tensor, Tensor]:
        pos, content = self.embedded(boxes_BN4).chunk(2, dim=-1)
        return content, pos


class FeatureEmbedding(nn.Module):
    """What the features of the candidates add to the contents (Co-DETR, eq. 4).

    Args:
        embed_dim: channels.
    """

    def __init__(self, *, embed_dim: int = 256):
        super().__init__()
        self.projection, self.norm = projected(embed_dim, embed_dim)

    def forward(self, features_BNC: Tensor) -> Tensor:
        """(B, N, C) of features (B, N, C)."""
        embedded: Tensor = self.norm(self.projection(features_BNC))
        return embedded


def projected(inputs: int, outputs: int) -> tuple[nn.Linear, nn.LayerNorm]:
    """A linear layer and the normalisation after it."""
    projection = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(projection.weight)
    return projection, nn.LayerNorm(outputs)
