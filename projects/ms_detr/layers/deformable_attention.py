"""Multi-scale deformable attention (Deformable DETR, section 4.1)."""

import math

import torch
from torch import Tensor, nn

from ..ops import fused_deform_attn
from ..structures import FeaturePyramid


class MultiScaleDeformableAttention(nn.Module):
    """Every query reads a few points around its reference on each level of the pyramid.

    Around a reference point offsets are in cells of each level; around a reference box in units of
    half its size divided by the number of points.

    Args:
        embed_dim: channels of queries and features, divisible by ``num_heads``.
        num_heads: attention heads.
        num_levels: levels of the pyramid.
        num_points: points per head and level.
    """

    def __init__(
        self, embed_dim: int, num_heads: int = 8, num_levels: int = 4, num_points: int = 4
    ):
        super().__init__()
        if embed_dim % num_heads:
            raise ValueError(f"embed_dim {embed_dim} is not divisible by num_heads {num_heads}")
        self.num_heads, self.num_levels, self.num_points = num_heads, num_levels, num_points
        samples = num_heads * num_levels * num_points
        self.sampling_offsets = nn.Linear(embed_dim, samples * 2)
        self.attention_weights = nn.Linear(embed_dim, samples)
        self.value_proj = nn.Linear(embed_dim, embed_dim)
        self.output_proj = nn.Linear(embed_dim, embed_dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Head h looks into direction h, point z lies z + 1 cells away; all weights are equal."""
        nn.init.zeros_(self.sampling_offsets.weight)
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for projection in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)
        angle_H = torch.arange(self.num_heads) * (2 * math.pi / self.num_heads)
        direction_H2 = torch.stack([angle_H.cos(), angle_H.sin()], -1)
        direction_H2 = direction_H2 / direction_H2.abs().amax(-1, keepdim=True)
        distance_Z = torch.arange(1, self.num_points + 1)
        offsets = direction_H2[:, None, None] * distance_Z[:, None]
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(offsets.expand(-1, self.num_levels, -1, -1).flatten())

    def forward(self, query_BNC: Tensor, reference_BNr: Tensor, memory: FeaturePyramid) -> Tensor:
        """Attend.

        Args:
            query_BNC: queries with their positions added.
            reference_BNr: their reference boxes (r = 4) or points (r = 2).
            memory: what is read; padding counts as zero.

        Returns:
            (B, N, C).
        """
        self.check_levels(memory)
        offsets, logits = self.samples(query_BNC, memory.dtype)
        attended = self.sampled(self.values(memory), offsets, logits, reference_BNr, memory)
        return self.output_proj(attended)

    def check_levels(self, memory: FeaturePyramid) -> None:
        """Raises ValueError if the pyramid has another number of levels than the attention."""
        if len(memory.shapes) != self.num_levels:
            raise ValueError(
                f"attention was built for {self.num_levels} levels, the pyramid has "
                f"{len(memory.shapes)}: {memory.shapes}; make num_levels of neck, encoder and "
                "decoder equal"
            )

    def values(self, memory: FeaturePyramid) -> Tensor:
        """What the tokens are read as, (B, S, C); zero on padding."""
        # The projection is this module's own, so its padding can be cleared in place.
        value = self.value_proj(memory.tokens_BSC)
        return value.masked_fill_(memory.padding_BS[..., None], 0.0)

    def samples(self, query: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Offsets (..., H * L * Z * 2) and logits (..., H * L * Z) of queries (..., C)."""
        # Places and weights stay at least in float32 where features are of half precision.
        return self.sampling_offsets(query).to(dtype), self.attention_weights(query).to(dtype)

    def sampled(
        self,
        value_BSC: Tensor,
        offsets: Tensor,
        logits: Tensor,
        reference_BNr: Tensor,
        memory: FeaturePyramid,
    ) -> Tensor:
        """What is read of the values, (B, N, C), given :meth:`samples` of the queries."""
        per_head = (*reference_BNr.shape[:2], self.num_heads)
        return fused_deform_attn(
            value_BSC.unflatten(-1, (self.num_heads, -1)),
            memory.shapes,
            self._on_levels(reference_BNr, memory),
            offsets.view(*per_head, self.num_levels, self.num_points, 2),
            logits.view(*per_head, -1),
        )

    @staticmethod
    def _on_levels(reference_BNr: Tensor, memory: FeaturePyramid) -> Tensor:
        """(B, N, L, r): the references as fractions of each level's padded map."""
        ratios_BL = memory.valid_ratios_BL2.repeat(1, 1, reference_BNr.shape[-1] // 2)
        return reference_BNr[:, :, None] * ratios_BL[:, None]
