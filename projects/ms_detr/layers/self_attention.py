"""Self-attention of the decoder's queries, group by group."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..structures.query_groups import QueryGroup, find, own_block, slices
from .scaled_attention import attend


class QuerySelfAttention(nn.Module):
    """Multi-head self-attention in which queries see those of their group, as the groups allow.

    Parameters have the names and shapes of ``torch.nn.MultiheadAttention``.

    Args:
        embed_dim: channels, a multiple of ``num_heads``.
        num_heads: heads.
        dropout: probability that an attention weight is dropped in training.
    """

    def __init__(self, embed_dim: int = 256, num_heads: int = 8, dropout: float = 0.0):
        super().__init__()
        if embed_dim % num_heads:
            raise ValueError(
                f"embed_dim must be a multiple of num_heads, got {embed_dim} and {num_heads}"
            )
        self.num_heads = num_heads
        self.dropout = dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * embed_dim, embed_dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * embed_dim))
        self.out_proj = nn.Linear(embed_dim, embed_dim)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(
        self, content_BNC: Tensor, pos_BNC: Tensor, groups: Sequence[QueryGroup] = ()
    ) -> Tensor:
        """Attend; queries and keys are content + position, values the content.

        Args:
            content_BNC: query states.
            pos_BNC: position embeddings.
            groups: whom the N queries belong to; none: all are one group.
        """
        channels = content_BNC.shape[-1]
        weights = self.in_proj_weight.split([2 * channels, channels])
        biases = self.in_proj_bias.split([2 * channels, channels])
        query, key = F.linear(content_BNC + pos_BNC, weights[0], biases[0]).chunk(2, -1)
        value = F.linear(content_BNC, weights[1], biases[1])
        dropout = self.dropout if self.training else 0.0
        return self.out_proj(grouped_attention(query, key, value, groups, self.num_heads, dropout))


def grouped_attention(
    query_BNC: Tensor,
    key_BNC: Tensor,
    value_BNC: Tensor,
    groups: Sequence[QueryGroup],
    num_heads: int,
    dropout: float = 0.0,
) -> Tensor:
    """Scaled dot-product attention (B, N, C) in which every query sees what its group allows.

    The same as one attention over all queries with a mask, but groups that do not see each other
    cost each other nothing, and blocks that see only themselves become images of a larger batch.

    Args:
        query_BNC, key_BNC, value_BNC: projected; heads are consecutive parts of the channels, whose
            number may differ between keys and values.
        groups: whom the N queries belong to; none: all are one group.
        num_heads: heads.
        dropout: probability that an attention weight is dropped.
    """
    if not groups:
        return _attend(query_BNC, key_BNC, value_BNC, num_heads, dropout)
    attended = []
    for group, place in slices(groups):
        own = query_BNC[:, place], key_BNC[:, place], value_BNC[:, place]
        if group.size == 0:
            attended.append(own[2])
        elif group.sees:
            places = [place, *(find(groups, name) for name in group.sees)]
            keys, values = (
                torch.cat([x[:, seen] for seen in places], 1) for x in (key_BNC, value_BNC)
            )
            mask = _own_block_and_others(group, keys)
            attended.append(_attend(own[0], keys, values, num_heads, dropout, mask))
        else:
            blocks = [x.unflatten(1, (group.blocks, -1)).flatten(0, 1) for x in own]
            folded = _attend(*blocks, num_heads, dropout)
            attended.append(folded.unflatten(0, (-1, group.blocks)).flatten(1, 2))
    return torch.cat(attended, 1)


def _own_block_and_others(group: QueryGroup, keys: Tensor) -> Tensor | None:
    """Mask (size, keys) of a group whose own queries come first among the keys."""
    if group.blocks == 1:
        return None
    return F.pad(own_block(group, keys.device), (0, keys.shape[1] - group.size), value=True)


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    num_heads: int,
    dropout: float,
    mask: Tensor | None = None,
) -> Tensor:
    heads = (x.unflatten(-1, (num_heads, -1)).transpose(1, 2) for x in (query, key, value))
    attended = attend(*heads, mask, dropout)
    return attended.transpose(1, 2).flatten(2)
