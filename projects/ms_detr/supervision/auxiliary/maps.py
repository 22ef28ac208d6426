"""What auxiliary heads look at."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torchvision.ops import box_convert

from ...structures import Targets


@dataclass(frozen=True)
class AuxiliaryMaps:
    """Feature maps for heads that predict from every cell, and the size of what they show.

    These heads compute in pixels of the padded batch, boxes as (x0, y0, x1, y1); the detector in
    fractions of the image without padding.

    Attributes:
        maps: (B, C, Hl, Wl) per level, finest first.
        strides: pixels from one cell to the next, per level.
        sizes: (height, width) of every image without padding, in pixels.
    """

    maps: tuple[Tensor, ...]
    strides: tuple[int, ...]
    sizes: tuple[tuple[int, int], ...]

    @cached_property
    def tokens_BSC(self) -> Tensor:
        """The cells of all levels, finest level first, row by row."""
        return torch.cat([features.flatten(2).transpose(1, 2) for features in self.maps], 1)

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """(height, width) of every level in cells."""
        return tuple((features.shape[2], features.shape[3]) for features in self.maps)

    @cached_property
    def dtype(self) -> torch.dtype:
        """Type of coordinates: at least float32."""
        return torch.promote_types(self.maps[0].dtype, torch.float32)

    @cached_property
    def centers_S2(self) -> Tensor:
        """Centre (x, y) of every cell, in pixels."""
        centers = []
        for (height, width), stride in zip(self.shapes, self.strides):
            y_H, x_W = (
                (torch.arange(n, dtype=self.dtype, device=self.maps[0].device) + 0.5) * stride
                for n in (height, width)
            )
            centers.append(torch.cartesian_prod(y_H, x_W).flip(1))
        return torch.cat(centers)

    @cached_property
    def level_S(self) -> Tensor:
        """Index of the level of every cell."""
        count_L = torch.tensor([height * width for height, width in self.shapes])
        level_S = torch.arange(len(self.shapes)).repeat_interleave(count_L)
        return level_S.to(self.maps[0].device)

    @cached_property
    def size_B2(self) -> Tensor:
        """(width, height) of every image."""
        sizes = [(width, height) for height, width in self.sizes]
        return torch.tensor(sizes, dtype=self.dtype, device=self.maps[0].device)

    @cached_property
    def on_image_BS(self) -> Tensor:
        """True for cells that show some of their image, not only padding."""
        low_S2 = self.centers_S2 - self.centers_S2.new_tensor(self.strides)[self.level_S, None] / 2
        return (low_S2 < self.size_B2[:, None]).all(-1)

    def boxes_of(self, targets: Targets) -> Tensor:
        """Boxes (G, 4) of the objects in pixels, as corners."""
        size_G4 = self.size_B2[targets.image_G].repeat(1, 2)
        return box_convert(targets.boxes_G4.to(self.dtype), "cxcywh", "xyxy") * size_G4

    def fractions(self, boxes_BA4: Tensor) -> Tensor:
        """Boxes in pixels, as corners, as (cx, cy, w, h) in fractions of their image."""
        return box_convert(boxes_BA4 / self.size_B2[:, None].repeat(1, 1, 2), "xyxy", "cxcywh")
