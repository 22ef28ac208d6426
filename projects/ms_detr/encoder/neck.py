"""From backbone maps to equally wide maps on the wanted number of levels."""

from torch import Tensor, nn


class ChannelMapper(nn.Module):
    """Project every backbone map to ``embed_dim`` channels and add coarser levels below the last.

    A projection is a 1x1 convolution with group normalisation; an added level is a 3x3 convolution
    of stride 2, the first one on the backbone's last map (Deformable DETR, appendix A.4.1).

    Args:
        in_channels: name -> channels of the backbone maps to use, finest first.
        embed_dim: channels of the result, divisible by ``num_groups``.
        num_levels: number of maps of the result, at least as many as are used.
        num_groups: groups of the normalisation.
    """

    def __init__(
        self,
        *,
        in_channels: dict[str, int],
        embed_dim: int,
        num_levels: int = 4,
        num_groups: int = 32,
    ):
        super().__init__()
        self.in_channels = dict(in_channels)
        self.num_levels = num_levels
        if num_levels < len(self.in_channels):
            raise ValueError(
                f"neck: num_levels {num_levels} is less than the maps used: {self.in_channels}"
            )

        def project(channels: int, kernel: int, stride: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(channels, embed_dim, kernel, stride, kernel // 2),
                nn.GroupNorm(num_groups, embed_dim),
            )

        channels = list(self.in_channels.values())
        self.projections = nn.ModuleList(project(c, 1, 1) for c in channels)
        extra = [channels[-1]] + [embed_dim] * (num_levels - len(channels) - 1)
        self.extra_levels = nn.ModuleList(
            project(c, 3, 2) for c in extra[: num_levels - len(channels)]
        )
        for sequence in (*self.projections, *self.extra_levels):
            nn.init.xavier_uniform_(sequence[0].weight)
            nn.init.zeros_(sequence[0].bias)

    def forward(self, features: dict[str, Tensor]) -> list[Tensor]:
        """Return ``num_levels`` maps (B, embed_dim, Hl, Wl), finest first."""
        maps = [project(features[n]) for n, project in zip(self.in_channels, self.projections)]
        coarse = features[list(self.in_channels)[-1]]
        for project in self.extra_levels:
            coarse = project(coarse)
            maps.append(coarse)
        return maps
