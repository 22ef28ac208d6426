"""From the encoder's memory to the maps of the auxiliary heads."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ...arguments import require_groups, require_whole
from ...structures import FeaturePyramid


class MultiScaleAdapter(nn.Module):
    """Makes the feature pyramid that all auxiliary heads look at (Co-DETR, section 3.2).

    It exists in training only.

    Attributes:
        strides: pixels from one cell to the next of every map it returns, finest first.
        memory_strides: those of the memory's levels.
        embed_dim: channels of the memory and of the maps.
    """

    def __init__(self, strides: Sequence[int], memory_strides: Sequence[int], embed_dim: int):
        super().__init__()
        self.embed_dim = embed_dim
        self.strides = tuple(strides)
        self.memory_strides = tuple(memory_strides)

    def forward(self, memory: FeaturePyramid) -> tuple[Tensor, ...]:
        """Maps (B, C, Hl, Wl), finest first."""
        raise NotImplementedError


class CoarserLevel(MultiScaleAdapter):
    """The levels of a multi-scale encoder, and one more below the coarsest.

    Args:
        embed_dim: channels.
        strides: of the result: those of the memory, then twice the last of them.
        num_groups: groups of the normalisation.

    Raises:
        ValueError: the last stride is not twice the one before.
    """

    def __init__(
        self,
        *,
        embed_dim: int = 256,
        strides: Sequence[int] = (8, 16, 32, 64, 128),
        num_groups: int = 32,
    ):
        check_strides("CoarserLevel", strides)
        if len(strides) < 2 or strides[-1] != 2 * strides[-2]:
            raise ValueError(
                f"strides of CoarserLevel are those of the memory, then twice the last of them, "
                f"e.g. [8, 16, 32, 64, 128] for four levels; got {list(strides)}"
            )
        super().__init__(strides, strides[:-1], embed_dim)
        self.down = convolution(embed_dim, 2, num_groups)

    def forward(self, memory: FeaturePyramid) -> tuple[Tensor, ...]:
        maps = [memory.map(level) for level in range(len(memory.shapes))]
        return (*maps, self.down(maps[-1]))


class PyramidOfOneLevel(MultiScaleAdapter):
    """A pyramid made of the map of a single-scale encoder, as ViTDet's.

    Finer levels are made by bilinear interpolation and a 3x3 convolution, coarser ones by a 3x3
    convolution of stride 2, each of its neighbour.

    Args:
        embed_dim: channels.
        strides: of the result, each twice the one before; the memory's is one of them.
        memory_stride: pixels from one cell of the memory to the next.
        num_groups: groups of the normalisation.

    Raises:
        ValueError: other strides.
    """

    def __init__(
        self,
        *,
        embed_dim: int = 256,
        strides: Sequence[int] = (8, 16, 32, 64, 128),
        memory_stride: int = 32,
        num_groups: int = 32,
    ):
        check_strides("PyramidOfOneLevel", strides)
        doubled = all(b == 2 * a for a, b in zip(strides, strides[1:]))
        if not doubled or memory_stride not in strides:
            raise ValueError(
                f"strides of PyramidOfOneLevel double from level to level, and memory_stride is "
                f"one of them, e.g. [8, 16, 32, 64, 128] and 32; got {list(strides)} and "
                f"{memory_stride}"
            )
        super().__init__(strides, [memory_stride], embed_dim)
        own = list(strides).index(memory_stride)
        self.up = nn.ModuleList(
            nn.Sequential(
                nn.Upsample(scale_factor=2, mode="bilinear"), convolution(embed_dim, 1, num_groups)
            )
            for _ in range(own)
        )
        self.down = nn.ModuleList(
            convolution(embed_dim, 2, num_groups) for _ in range(len(strides) - own - 1)
        )

    def forward(self, memory: FeaturePyramid) -> tuple[Tensor, ...]:
        maps = [memory.map(0)]
        for finer in self.up:
            maps.insert(0, finer(maps[0]))
        for coarser in self.down:
            maps.append(coarser(maps[-1]))
        return tuple(maps)


def convolution(embed_dim: int, stride: int, num_groups: int) -> nn.Sequential:
    """A 3x3 convolution with group normalisation, initialised like the neck's."""
    require_groups("model.supervisions.adapter", embed_dim, num_groups)
    convolution = nn.Conv2d(embed_dim, embed_dim, 3, stride, padding=1)
    nn.init.xavier_uniform_(convolution.weight)
    nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
    return nn.Sequential(convolution, nn.GroupNorm(num_groups, embed_dim))


def check_strides(name: str, strides: Sequence[int]) -> None:
    """Raises ValueError unless there are strides, all of them whole numbers."""
    if not strides:
        raise ValueError(f"strides of {name} must name one level or more, e.g. [8, 16, 32, 64]")
    for stride in strides:
        require_whole(f"a stride of {name}", stride)
