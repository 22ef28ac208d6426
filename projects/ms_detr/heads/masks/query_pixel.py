"""Masks as a product of a query and every pixel (MaskFormer, MaskDINO)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...layers import MLP
from ...structures import FeaturePyramid
from .head import MaskHead


def normed_conv(channels: int, out_channels: int, kernel: int, num_groups: int) -> nn.Sequential:
    """Convolution that keeps the size, and group normalisation."""
    return nn.Sequential(
        nn.Conv2d(channels, out_channels, kernel, padding=kernel // 2, bias=False),
        nn.GroupNorm(num_groups, out_channels),
    )


def resized(x: Tensor, like: Tensor) -> Tensor:
    """Bilinear resize of maps to the size of others."""
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


class PixelDecoder(nn.Module):
    """A feature pyramid from the encoder's finest levels up to one map of the backbone.

    Args:
        in_channels: channels of the backbone's map.
        embed_dim: channels of the encoder's levels, and of the pyramid.
        num_levels: levels of the encoder to use, from the finest on.
        mask_dim: channels of the result.
        num_groups: groups of the normalisation.
    """

    def __init__(
        self, in_channels: int, embed_dim: int, num_levels: int, mask_dim: int, num_groups: int
    ):
        super().__init__()
        self.lateral = normed_conv(in_channels, embed_dim, 1, num_groups)
        self.merges = nn.ModuleList(
            normed_conv(embed_dim, embed_dim, 3, num_groups) for _ in range(num_levels)
        )
        self.output = nn.Conv2d(embed_dim, mask_dim, 1)

    def forward(self, finest: Tensor, levels: list[Tensor]) -> Tensor:
        """Embeddings (B, mask_dim, h, w) of the pixels.

        Args:
            finest: the backbone's map, (B, in_channels, h, w).
            levels: of the encoder, finest first.
        """
        sides = [self.lateral(finest), *levels]
        pyramid = sides.pop()
        for merge in self.merges:
            side = sides.pop()
            pyramid = F.relu(merge(side + resized(pyramid, side)))
        return self.output(pyramid)


class QueryPixelMaskHead(MaskHead):
    """A perceptron makes a vector of the query; its product with a pixel's is the pixel's logit.

    Pixels are those of one map of the backbone, of stride 4 as a rule, which a small pyramid gives
    the encoder's knowledge.

    Args:
        in_channels: name and channels of the backbone's map.
        embed_dim: channels of query states and of the encoder's levels.
        mask_dim: channels of the product.
        num_levels: levels of the encoder to use, from the finest on.
        num_groups: groups of the normalisation in the pyramid.

    Raises:
        ValueError: more than one map, or fewer than one level.
    """

    def __init__(
        self,
        *,
        in_channels: dict[str, int],
        embed_dim: int = 256,
        mask_dim: int = 256,
        num_levels: int = 3,
        num_groups: int = 32,
    ):
        super().__init__(in_channels)
        if len(self.in_channels) != 1:
            raise ValueError(
                f"mask_head.in_channels names {list(self.in_channels)}: a QueryPixelMaskHead takes "
                "one map of the backbone, the one whose pixels the masks have"
            )
        if num_levels < 1:
            raise ValueError(f"mask_head.num_levels must be at least 1, got {num_levels}")
        self.num_levels = num_levels
        (channels,) = self.in_channels.values()
        self.pixel_decoder = PixelDecoder(channels, embed_dim, num_levels, mask_dim, num_groups)
        self.query_embed = MLP([embed_dim, embed_dim, embed_dim, mask_dim])

    def pixels(self, features: dict[str, Tensor], memory: FeaturePyramid) -> Tensor:
        """Embeddings (B, mask_dim, h, w) of all pixels."""
        if self.num_levels > len(memory.shapes):
            raise ValueError(
                f"mask_head.num_levels is {self.num_levels}, but the encoder has "
                f"{len(memory.shapes)} levels; give at most that many"
            )
        (name,) = self.in_channels
        levels = [memory.map(level) for level in range(self.num_levels)]
        return self.pixel_decoder(features[name], levels)

    def forward(
        self, pixels: Tensor, states_PC: Tensor, image_P: Tensor, boxes_P4: Tensor
    ) -> Tensor:
        shape = pixels.shape[-2:]
        query_PC = self.query_embed(states_PC)
        # Image by image: a copy of the pixels for every query would be (P, mask_dim, h, w).
        images, counts = image_P.unique_consecutive(return_counts=True)
        runs = zip(images.tolist(), query_PC.split(counts.tolist()))
        logits = [own_PC @ pixels[image].flatten(1) for image, own_PC in runs]
        if not logits:
            logits = [query_PC @ pixels[0].flatten(1)]
        return torch.cat(logits).unflatten(1, shape)
