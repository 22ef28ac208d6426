"""Deformable attention that passes over its tokens less often."""

from __future__ import annotations

from torch import Tensor, nn

from ..encoder import DeformableEncoderLayer
from ..layers import MultiScaleDeformableAttention
from ..structures import FeaturePyramid
from .chunks import by_chunks
from .feed_forward import ChunkedFeedForward


class ChunkedDeformableAttention(MultiScaleDeformableAttention):
    """Deformable attention whose values are made a few thousand tokens at a time.

    Args:
        attention: whose parts are used.
    """

    def __init__(self, attention: MultiScaleDeformableAttention):
        nn.Module.__init__(self)
        for name in ("num_heads", "num_levels", "num_points", "sampling_offsets"):
            setattr(self, name, getattr(attention, name))
        for name in ("attention_weights", "value_proj", "output_proj"):
            setattr(self, name, getattr(attention, name))

    def values(self, memory: FeaturePyramid) -> Tensor:
        tokens_BSC = memory.tokens_BSC
        (values,) = by_chunks(
            self.value_rows, tokens_BSC.flatten(0, 1), memory.padding_BS.flatten()
        )
        return values.view(*tokens_BSC.shape[:2], -1)

    def value_rows(self, tokens_RC: Tensor, padding_R: Tensor) -> tuple[Tensor]:
        """Values of some tokens."""
        return (self.value_proj(tokens_RC).masked_fill_(padding_R[:, None], 0.0),)


class ChunkedEncoderLayer(nn.Module):
    """A deformable encoder layer in three passes: up to the sampling, the sampling, and the rest.

    Args:
        layer: whose parts are used.
    """

    def __init__(self, layer: DeformableEncoderLayer):
        super().__init__()
        self.attention = ChunkedDeformableAttention(layer.attention)
        self.norm = layer.norm
        self.feed_forward = ChunkedFeedForward(layer.feed_forward)

    def forward(self, memory: FeaturePyramid, centers_BS2: Tensor) -> Tensor:
        """Return new tokens (B, S, C)."""
        attention = self.attention
        attention.check_levels(memory)
        rows = [x.flatten(0, 1) for x in (memory.tokens_BSC, memory.pos_BSC)]
        padding_R = memory.padding_BS.flatten()
        made = by_chunks(self._before, *rows, padding_R)
        images = len(memory.tokens_BSC)
        values, offsets, logits = (x.unflatten(0, (images, -1)) for x in made)
        attended = attention.sampled(values, offsets, logits, centers_BS2, memory)
        (tokens_RC,) = by_chunks(self._after, rows[0], attended.flatten(0, 1))
        return tokens_RC.view(memory.tokens_BSC.shape)

    def _before(self, tokens_RC: Tensor, pos_RC: Tensor, padding_R: Tensor) -> tuple[Tensor, ...]:
        """Values, offsets and logits, the last two at least in float32 as their reader has them."""
        attention = self.attention
        offsets, logits = attention.samples(tokens_RC + pos_RC, pos_RC.dtype)
        return (*attention.value_rows(tokens_RC, padding_R), offsets, logits)

    def _after(self, tokens_RC: Tensor, attended_RC: Tensor) -> tuple[Tensor]:
        attended = self.attention.output_proj(attended_RC)
        return (self.feed_forward(self.norm(tokens_RC + attended)),)
