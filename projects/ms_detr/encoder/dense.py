"""The encoder of DETR: every cell of one map reads from all of them."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from ..layers import MLP, Dropout, FeedForward, SinePosition, reset_transformer_parameters
from ..structures import FeaturePyramid


class DenseEncoderLayer(nn.Module):
    """Self-attention over all cells, then a feed-forward; both post-norm."""

    def __init__(
        self,
        *,
        embed_dim: int,
        feedforward_dim: int,
        dropout: float,
        num_heads: int = 8,
        activation: nn.Module | None = None,
    ):
        super().__init__()
        if embed_dim % num_heads:
            raise ValueError(f"embed_dim {embed_dim} is not divisible by num_heads {num_heads}")
        self.attention = nn.MultiheadAttention(
            embed_dim, num_heads, dropout=dropout, batch_first=True
        )
        self.dropout = Dropout(dropout)
        self.norm = nn.LayerNorm(embed_dim)
        self.feed_forward = FeedForward(embed_dim, feedforward_dim, dropout, activation)

    def forward(self, tokens_BSC: Tensor, pos_BSC: Tensor, padding_BS: Tensor) -> Tensor:
        """Return new tokens (B, S, C)."""
        key = tokens_BSC + pos_BSC
        attended = self.attention(
            key, key, tokens_BSC, key_padding_mask=padding_BS, need_weights=False
        )[0]
        return self.feed_forward(self.norm(tokens_BSC + self.dropout(attended)))


class DenseEncoder(nn.Module):
    """Feature map in, memory out; its cost grows with the square of the number of cells.

    Args:
        position: makes the position embeddings of the cells.
        num_layers: number of layers; 0 gives the map itself.
        embed_dim, feedforward_dim, dropout, num_heads: of each layer.
        activation: of the feed-forwards, see :class:`ms_detr.layers.FeedForward`.
    """

    def __init__(
        self,
        *,
        position: SinePosition,
        num_layers: int = 6,
        embed_dim: int = 256,
        feedforward_dim: int = 2048,
        dropout: float = 0.1,
        num_heads: int = 8,
        activation: nn.Module | None = None,
    ):
        super().__init__()
        self.position = position
        layer = DenseEncoderLayer(
            embed_dim=embed_dim,
            feedforward_dim=feedforward_dim,
            dropout=dropout,
            num_heads=num_heads,
            activation=activation,
        )
        self.layers = nn.ModuleList(copy.deepcopy(layer) for _ in range(num_layers))
        reset_transformer_parameters(self)

    def forward(self, maps: list[Tensor], padding_BHW: Tensor) -> FeaturePyramid:
        """Encode.

        Args:
            maps: one map (B, C, H, W).
            padding_BHW: padding of the images.

        Raises:
            ValueError: another number of maps.
        """
        if len(maps) != 1:
            raise ValueError(
                f"{type(self).__name__} reads one map, the neck gives {len(maps)}; use one, or "
                f"ms_detr.encoder.DeformableEncoder"
            )
        memory = FeaturePyramid.from_maps(
            maps, padding_BHW, lambda _, *cells: self.position(*cells)
        )
        for layer in self.layers:
            tokens_BSC = memory.tokens_BSC
            pos_BSC = self.scaled(memory.pos_BSC, tokens_BSC)
            memory = memory.with_tokens(layer(tokens_BSC, pos_BSC, memory.padding_BS))
        return memory

    def scaled(self, pos_BSC: Tensor, tokens_BSC: Tensor) -> Tensor:
        """Position embeddings as a layer gets them."""
        return pos_BSC


class ScaledDenseEncoder(DenseEncoder):
    """The same with positions scaled channel by channel by a perceptron of the token.

    The published code of DAB-DETR has it, and all layers share the perceptron.

    Args:
        position, num_layers, embed_dim, feedforward_dim, dropout, num_heads, activation: see
            :class:`DenseEncoder`.
    """

    def __init__(
        self,
        *,
        position: SinePosition,
        num_layers: int = 6,
        embed_dim: int = 256,
        feedforward_dim: int = 2048,
        dropout: float = 0.1,
        num_heads: int = 8,
        activation: nn.Module | None = None,
    ):
        super().__init__(
            position=position,
            num_layers=num_layers,
            embed_dim=embed_dim,
            feedforward_dim=feedforward_dim,
            dropout=dropout,
            num_heads=num_heads,
            activation=activation,
        )
        self.scale = MLP([embed_dim, embed_dim, embed_dim])
        reset_transformer_parameters(self.scale)

    def scaled(self, pos_BSC: Tensor, tokens_BSC: Tensor) -> Tensor:
        return pos_BSC * self.scale(tokens_BSC)
