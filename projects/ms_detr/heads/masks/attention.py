"""Masks from attention maps (DETR, section 4.4)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...structures import FeaturePyramid
from .head import MaskHead
from .query_pixel import normed_conv, resized


class AttentionPixels(NamedTuple):
    """What the queries of a batch share.

    Attributes:
        keys_BHCS: keys of the attention on the coarse level, by head.
        padding_BS: True on its padding.
        coarse_BChw: what the first convolution makes of the coarse level.
        sides: the backbone's maps, projected, coarsest first.
    """

    keys_BHCS: Tensor
    padding_BS: Tensor
    coarse_BChw: Tensor
    sides: list[Tensor]


class AttentionMaskHead(MaskHead):
    """Where a query looks on a coarse level, refined by a small pyramid of its own.

    Every query passes through all convolutions: cheap for a few masks, dear for many, where
    :class:`QueryPixelMaskHead` is the other way round. Here for comparison. The first convolution
    of DETR's head reads the level and the attention map side by side; it is linear, so the level's
    part is done once an image.

    Args:
        in_channels: name -> channels of the backbone's maps, coarsest first; masks have the size of
            the last.
        embed_dim: channels of query states and of the encoder's levels; halved by every
            convolution but the first.
        level: of the encoder, which attention reads.
        num_heads: attention heads.
        num_groups: groups of the normalisation.

    Raises:
        ValueError: no map, or channels that cannot be divided.
    """

    def __init__(
        self,
        *,
        in_channels: dict[str, int],
        embed_dim: int = 256,
        level: int = 2,
        num_heads: int = 8,
        num_groups: int = 8,
    ):
        super().__init__(in_channels)
        widths = [embed_dim >> index for index in range(len(self.in_channels) + 2)]
        if not self.in_channels or embed_dim % num_heads or not widths[-1]:
            raise ValueError(
                f"mask_head: {embed_dim} channels cannot be divided among {num_heads} heads, or "
                f"halved for {list(self.in_channels)} and once more; change embed_dim, num_heads "
                "or in_channels"
            )
        self.level, self.num_heads = level, num_heads
        self.query = nn.Linear(embed_dim, embed_dim)
        self.key = nn.Linear(embed_dim, embed_dim)
        self.coarse = nn.Conv2d(embed_dim, embed_dim, 3, padding=1)
        self.attended = nn.Conv2d(num_heads, embed_dim, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(num_groups, embed_dim)
        self.laterals = nn.ModuleList(
            nn.Conv2d(channels, width, 1)
            for channels, width in zip(self.in_channels.values(), widths[1:])
        )
        self.reductions = nn.ModuleList(
            normed_conv(wide, narrow, 3, num_groups) for wide, narrow in zip(widths, widths[1:])
        )
        self.output = nn.Conv2d(widths[-1], 1, 3, padding=1)

    def pixels(self, features: dict[str, Tensor], memory: FeaturePyramid) -> AttentionPixels:
        """Keys and maps that all queries share."""
        if self.level >= len(memory.shapes):
            raise ValueError(
                f"mask_head.level is {self.level}, but the encoder has {len(memory.shapes)} "
                "levels, the first of which is 0"
            )
        coarse = memory.map(self.level)
        keys_BHCS = self.key(coarse.flatten(2).transpose(1, 2)).transpose(1, 2)
        first = sum(h * w for h, w in memory.shapes[: self.level])
        return AttentionPixels(
            keys_BHCS.unflatten(1, (self.num_heads, -1)),
            memory.padding_BS[:, first : first + coarse.shape[-2] * coarse.shape[-1]],
            self.coarse(coarse),
            [side(features[name]) for name, side in zip(self.in_channels, self.laterals)],
        )

    def forward(
        self, pixels: AttentionPixels, states_PC: Tensor, image_P: Tensor, boxes_P4: Tensor
    ) -> Tensor:
        attention = self._attention(pixels, states_PC, image_P)
        x = self.attended(attention) + pixels.coarse_BChw[image_P]
        x = F.relu(self.reductions[0](F.relu(self.norm(x))))
        for reduction, side in zip(self.reductions[1:], pixels.sides):
            x = resized(x, side) + side[image_P]
            x = F.relu(reduction(x))
        return self.output(x)[:, 0]

    def _attention(self, pixels: AttentionPixels, states_PC: Tensor, image_P: Tensor) -> Tensor:
        """Attention (P, heads, h, w) of the queries; all heads together sum to 1, as in DETR."""
        query_PHC = self.query(states_PC).unflatten(1, (self.num_heads, -1))
        query_PHC = query_PHC / math.sqrt(query_PHC.shape[-1])
        scores_PHS = torch.einsum("phc,phcs->phs", query_PHC, pixels.keys_BHCS[image_P])
        scores_PHS = scores_PHS.masked_fill(pixels.padding_BS[image_P, None], float("-inf"))
        attention_PHS = scores_PHS.flatten(1).softmax(1).view_as(scores_PHS)
        return attention_PHS.unflatten(2, pixels.coarse_BChw.shape[-2:])
