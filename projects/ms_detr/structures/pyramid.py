"""What encoder and decoder read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor


def padding_mask(image_sizes: Sequence[tuple[int, int]], padded: Tensor) -> Tensor:
    """Which pixels of a padded batch are not image.

    Args:
        image_sizes: (height, width) of every image before padding.
        padded: (B, 3, H, W), the batch; padding is at the right and at the bottom.

    Returns:
        (B, H, W) bool, True on padding.
    """
    sizes_B2 = torch.tensor(image_sizes, device=padded.device)
    height, width = padded.shape[-2:]
    below_BH = torch.arange(height, device=padded.device) >= sizes_B2[:, :1]
    right_BW = torch.arange(width, device=padded.device) >= sizes_B2[:, 1:]
    return below_BH[:, :, None] | right_BW[:, None, :]


@dataclass(frozen=True)
class FeaturePyramid:
    """Feature maps of one batch, flattened to tokens, finest level first.

    Attributes:
        tokens_BSC: the features.
        pos_BSC: their position embeddings.
        padding_BS: True on tokens that lie on padding.
        shapes: (height, width) of every level; their products sum to S.
        valid_BL2: (width, height) of the part of each level that is image, in cells.
    """

    tokens_BSC: Tensor
    pos_BSC: Tensor
    padding_BS: Tensor
    shapes: tuple[tuple[int, int], ...]
    valid_BL2: Tensor

    @classmethod
    def from_maps(
        cls,
        maps: Sequence[Tensor],
        padding_BHW: Tensor,
        position: Callable[[int, Tensor, tuple[int, int], torch.dtype], Tensor],
    ) -> FeaturePyramid:
        """Flatten feature maps.

        Args:
            maps: (B, C, Hl, Wl) per level.
            padding_BHW: padding of the images, see :func:`padding_mask`.
            position: position embedding, (level, valid_B2, shape, dtype) -> (B, Hl*Wl, C).
        """
        shapes = tuple((m.shape[2], m.shape[3]) for m in maps)
        dtype = torch.promote_types(maps[0].dtype, torch.float32)
        full = padding_BHW[:, None].to(dtype)
        paddings, positions, valid = [], [], []
        for level, shape in enumerate(shapes):
            # Nearest neighbour decides which cells are image, as in the published code.
            padding = F.interpolate(full, size=shape)[:, 0] > 0.5
            valid_B2 = torch.stack([(~padding[:, 0]).sum(1), (~padding[:, :, 0]).sum(1)], 1)
            paddings.append(padding.flatten(1))
            positions.append(position(level, valid_B2, shape, dtype))
            valid.append(valid_B2)
        return cls(
            tokens_BSC=torch.cat([m.flatten(2).transpose(1, 2) for m in maps], 1),
            pos_BSC=torch.cat(positions, 1),
            padding_BS=torch.cat(paddings, 1),
            shapes=shapes,
            valid_BL2=torch.stack(valid, 1),
        )

    def with_tokens(self, tokens_BSC: Tensor) -> FeaturePyramid:
        """The same pyramid with other features."""
        return replace(self, tokens_BSC=tokens_BSC)

    def map(self, level: int) -> Tensor:
        """(B, C, H, W): the features of one level as a map."""
        tokens = self.tokens_BSC.split([h * w for h, w in self.shapes], 1)[level]
        return tokens.transpose(1, 2).unflatten(2, self.shapes[level])

    @property
    def dtype(self) -> torch.dtype:
        """Type of coordinates that belong to these features: at least float32."""
        return torch.promote_types(self.tokens_BSC.dtype, torch.float32)

    @property
    def valid_ratios_BL2(self) -> Tensor:
        """Share (x, y) of each level that is image, in (0, 1]; turns image into map coordinates."""
        size_L2 = torch.tensor([(w, h) for h, w in self.shapes], device=self.valid_BL2.device)
        return self.valid_BL2.to(self.dtype) / size_L2

    def centers_BS2(self) -> Tensor:
        """(B, S, 2): centre (x, y) of every cell, as a fraction of the unpadded image."""
        centers = []
        for level, (height, width) in enumerate(self.shapes):
            valid_B2 = self.valid_BL2[:, level].to(self.dtype)
            x_BW = (torch.arange(width, device=valid_B2.device) + 0.5) / valid_B2[:, :1]
            y_BH = (torch.arange(height, device=valid_B2.device) + 0.5) / valid_B2[:, 1:]
            grid = torch.stack(
                [x_BW[:, None, :].expand(-1, height, -1), y_BH[:, :, None].expand(-1, -1, width)],
                -1,
            )
            centers.append(grid.flatten(1, 2))
        return torch.cat(centers, 1)
