"""The neck of DETR: one map of the backbone, projected."""

from torch import Tensor, nn


class SingleLevelNeck(nn.Module):
    """A 1x1 convolution without normalisation on one backbone map (DETR, section 3.2).

    Args:
        in_channels: name -> channels of the map.
        embed_dim: channels of the result.

    Raises:
        ValueError: not exactly one map.
    """

    def __init__(self, *, in_channels: dict[str, int], embed_dim: int):
        super().__init__()
        self.in_channels = dict(in_channels)
        self.num_levels = 1
        if len(self.in_channels) != 1:
            raise ValueError(
                f"model.neck.in_channels of SingleLevelNeck must name one map, "
                f"got {self.in_channels}"
            )
        (channels,) = self.in_channels.values()
        self.projection = nn.Conv2d(channels, embed_dim, 1)

    def forward(self, features: dict[str, Tensor]) -> list[Tensor]:
        """Return one map (B, embed_dim, H, W)."""
        return [self.projection(features[name]) for name in self.in_channels]
