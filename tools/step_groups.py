"""The figures of tools/benchmark_step.py about groups of queries: one pass, and what it saves."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from benchmarking import Figure, ratio, take_turns
from torch import Tensor, nn

from ms_detr.decoder import Decoder, DetachedRefinement, SelfCrossLayer
from ms_detr.heads import PredictionHeads
from ms_detr.layers import QuerySelfAttention
from ms_detr.structures import FeaturePyramid, Queries, QueryGroup

GROUPS, IMAGES, CHANNELS = 11, 2, 256


def group_figures(size: tuple[int, int], queries: int, runs: int, device: str) -> list[Figure]:
    """Group DETR's queries against the sum of its parts, and against one masked attention.

    Args:
        size: height and width of the images.
        queries: of each of the 11 groups.
        runs: of every arm.
        device: "cpu" or "cuda".
    """
    torch.manual_seed(0)
    groups = (
        QueryGroup("primary", queries),
        QueryGroup("group", (GROUPS - 1) * queries, blocks=GROUPS - 1),
    )
    decoder = take_turns(_decoder_arms(size, queries, groups, device), runs, device=device)
    attention = take_turns(_attention_arms(queries, groups, device), runs, device=device)
    return [
        ratio(
            f"decoder, {GROUPS} groups of {queries}: one pass / {GROUPS} passes",
            decoder, "one pass", f"{GROUPS} passes", goal=1.25, better="lower",
        ),
        ratio(
            f"self-attention, {GROUPS} groups of {queries}: one masked attention / group by group",
            attention, "masked", "by group", goal=None,
        ),
    ]  # fmt: skip


Arms = Mapping[str, Callable[[], object]]


def _decoder_arms(
    size: tuple[int, int], queries: int, groups: tuple[QueryGroup, ...], device: str
) -> Arms:
    layer = SelfCrossLayer(feedforward_dim=2048, dropout=0.0)
    decoder = Decoder(layer=layer, refinement=DetachedRefinement()).to(device)
    heads = PredictionHeads(num_classes=80).to(device)
    memory = _memory(size, device)
    total = GROUPS * queries
    content, pos = torch.randn(2, IMAGES, total, CHANNELS, device=device).unbind(0)
    parts = (content, pos, torch.rand(IMAGES, total, 4, device=device) * 0.5 + 0.25)

    def decode(which: slice, groups: tuple[QueryGroup, ...] = ()) -> None:
        states = decoder(Queries(*(part[:, which] for part in parts), groups), memory, heads)
        sum(layer.sum() for layer in states.taps["output"]).backward()

    def alone() -> None:
        for group in range(GROUPS):
            decode(slice(group * queries, (group + 1) * queries))

    return {"one pass": lambda: decode(slice(None), groups), f"{GROUPS} passes": alone}


def _memory(size: tuple[int, int], device: str) -> FeaturePyramid:
    shapes = tuple((-(-size[0] // stride), -(-size[1] // stride)) for stride in (8, 16, 32, 64))
    tokens = sum(height * width for height, width in shapes)
    whole = torch.tensor([(width, height) for height, width in shapes], device=device)
    return FeaturePyramid(
        tokens_BSC=torch.randn(IMAGES, tokens, CHANNELS, device=device, requires_grad=True),
        pos_BSC=torch.randn(IMAGES, tokens, CHANNELS, device=device),
        padding_BS=torch.zeros(IMAGES, tokens, dtype=torch.bool, device=device),
        shapes=shapes,
        valid_BL2=whole.expand(IMAGES, -1, -1),
    )


def _attention_arms(queries: int, groups: tuple[QueryGroup, ...], device: str) -> Arms:
    ours = QuerySelfAttention(CHANNELS, 8).to(device)
    whole = nn.MultiheadAttention(CHANNELS, 8, batch_first=True).to(device)
    number = torch.arange(GROUPS, device=device).repeat_interleave(queries)
    hidden = number[:, None] != number
    content = torch.randn(IMAGES, GROUPS * queries, CHANNELS, device=device, requires_grad=True)
    pos = torch.randn_like(content)

    def masked() -> Tensor:
        key = content + pos
        return whole(key, key, content, attn_mask=hidden, need_weights=False)[0].sum().backward()

    return {
        "masked": masked,
        "by group": lambda: ours(content, pos, groups).sum().backward(),
    }
