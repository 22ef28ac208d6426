"""What kind of model a checkpoint holds, read from its keys and shapes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from torch import Tensor

from .errors import CheckpointError


class Side(Enum):
    """Whose names a state dict uses."""

    OFFICIAL = 0
    OURS = 1


# Keys that tell the kind of model; (official, ours).  Groups count layers, blocks and so on.
_STAGE = (r"backbone\.0\.body\.layer(\d+)\.(\d+)\.", r"backbone\.res(\d+)\.(\d+)\.")
_CONVOLUTION = (_STAGE[0] + r"conv(\d+)\.weight$", _STAGE[1] + r"conv(\d+)\.weight$")
_SHORTCUT = (_STAGE[0] + r"downsample\.", _STAGE[1] + r"shortcut\.")
_ENCODER = (r"transformer\.encoder\.layers\.(\d+)\.", r"encoder\.layers\.(\d+)\.")
_DECODER = (r"transformer\.decoder\.layers\.(\d+)\.", r"decoder\.layers\.(\d+)\.")
_FIRST_STAGE = (r"transformer\.(enc_output|pos_trans)", r"queries\.proposals\.")
_QUERIES = (r"query_embed\.", r"queries\.(content|embedding)\.")
_AUXILIARY = (
    r"transformer\.decoder\.layers\.\d+\.(linear[34]|norm4)\.",
    r"supervisions\.mixed\.branch\.",
)
_ANY_DECODER = re.compile(r"(.*?)(transformer\.)?decoder\.layers\.\d+\.")
_OWN_CLASSES = (r"class_embed_o2m\.", r"supervisions\.mixed\.class_heads\.")


@dataclass(frozen=True)
class ResNetLayout:
    """A ResNet.

    Attributes:
        blocks: number of blocks of each stage.
        convolutions: of each block: 3 (bottleneck) or 2 (basic).
        shortcuts: (stage, block), both from 0, of blocks with a convolution in their shortcut.
        counts_batches: whether its norms carry ``num_batches_tracked`` (norms that are trained).
    """

    blocks: tuple[int, ...]
    convolutions: int
    shortcuts: frozenset[tuple[int, int]]
    counts_batches: bool

    @classmethod
    def read(cls, state: Mapping[str, Tensor], side: Side) -> ResNetLayout:
        """The ResNet of a state dict; without blocks if it has none that is recognised."""
        first = 1 if side is Side.OFFICIAL else 2
        indices = {(int(found[1]) - first, int(found[2])) for found in _all(_STAGE, state, side)}
        stages = 1 + max((stage for stage, _ in indices), default=-1)
        blocks = tuple(
            1 + max((block for at, block in indices if at == stage), default=-1)
            for stage in range(stages)
        )
        # Channels into and out of every block; a block that changes them has a shortcut.
        convolutions = {
            (int(found[1]) - first, int(found[2]), int(found[3])): state[found.string]
            for found in _all(_CONVOLUTION, state, side)
        }
        depth = max((number for *_, number in convolutions), default=3)
        shortcuts = {
            (int(found[1]) - first, int(found[2])) for found in _all(_SHORTCUT, state, side)
        }
        for block in indices:
            entry, end = convolutions.get((*block, 1)), convolutions.get((*block, depth))
            if entry is None or end is None or entry.ndim != 4 or end.ndim != 4:
                continue  # a missing key, or a shape that is refused later
            if entry.shape[1] != end.shape[0]:
                shortcuts.add(block)
        return cls(
            blocks=blocks,
            convolutions=depth,
            shortcuts=frozenset(shortcuts),
            counts_batches=any(
                key.startswith("backbone.") and key.endswith(".num_batches_tracked")
                for key in state
            ),
        )


@dataclass(frozen=True)
class Layout:
    """The kind of a detector, as far as its keys say it.

    The order of the two attentions in a decoder layer is *not* in the keys: MS-DETR (c) without its
    auxiliary feed-forward has those of Deformable-DETR.

    Attributes:
        backbone: the backbone.
        maps: maps of the backbone that are used.
        extra_levels: levels below them.
        encoder_layers, decoder_layers: their numbers.
        two_stage: queries come from proposals of the encoder.
        learned_queries: there are learned query embeddings: always in one-stage models, in
            two-stage models with mixed query selection.
        refined: boxes are refined from layer to layer, with heads of each layer's own; without
            refinement all layers share one class head and one box head.
        auxiliary: each decoder layer has MS-DETR's auxiliary feed-forward.
        own_classes: one-to-many supervision has class heads of its own (implementation (a)).
    """

    backbone: ResNetLayout
    maps: int
    extra_levels: int
    encoder_layers: int
    decoder_layers: int
    two_stage: bool
    learned_queries: bool
    refined: bool
    auxiliary: bool
    own_classes: bool

    @property
    def num_heads(self) -> int:
        """Class heads of the decoder: one per layer, or one for all."""
        return self.decoder_layers if self.refined else 1

    @classmethod
    def read(cls, state: Mapping[str, Tensor], side: Side, refined: bool | None = None) -> Layout:
        """Read the kind of model from a state dict.

        Args:
            state: the state dict.
            side: whose names it uses.
            refined: whether boxes are refined, if that is known; our names do not say it for a
                decoder of one layer, which then counts as refined.

        Raises:
            CheckpointError: there is no decoder, or the model is one that the official code
                cannot run (two stages without box refinement).
        """
        decoder_layers = _count(_DECODER, state, side)
        if not decoder_layers:
            raise CheckpointError(_no_decoder(state, side))
        if refined is None or side is Side.OFFICIAL:
            refined = _is_refined(state, side, decoder_layers)
        maps, extra_levels = _count_levels(state, side)
        layout = cls(
            backbone=ResNetLayout.read(state, side),
            maps=maps,
            extra_levels=extra_levels,
            encoder_layers=_count(_ENCODER, state, side),
            decoder_layers=decoder_layers,
            two_stage=_has(_FIRST_STAGE, state, side),
            learned_queries=_has(_QUERIES, state, side),
            refined=refined,
            auxiliary=_has(_AUXILIARY, state, side),
            own_classes=_has(_OWN_CLASSES, state, side),
        )
        if layout.two_stage and not layout.refined:
            raise CheckpointError(
                "the model has two stages but shares one head among its decoder layers; the "
                "official code cannot run this: two-stage models have heads of each layer's own"
            )
        return layout


def _no_decoder(state: Mapping[str, Tensor], side: Side) -> str:
    """Why no decoder layer was found: whether it has other names, and what to do."""
    wanted = ("transformer.decoder.layers.", "decoder.layers.")[side.value]
    sentences = [
        f"the checkpoint has no decoder layer (keys {wanted}0...); its {len(state)} keys are "
        f"{_some(state)}"
    ]
    found = next(filter(None, map(_ANY_DECODER.match, sorted(state))), None)
    if found is None:
        sentences.append("It is no (MS-)Deformable-DETR")
    elif found[1]:
        wrapped = " (a model wrapped for several devices)" if found[1] == "module." else ""
        sentences.append(
            f"Its decoder's keys begin with {found[1]!r}{wrapped}; save its state dict without it: "
            f"{{key.removeprefix({found[1]!r}): value for key, value in state.items()}}"
        )
    if found is not None and (found[2] is None) == (side is Side.OFFICIAL):
        sentences.append("It is one that is to be converted the other way")
    return ". ".join(sentences)


def _is_refined(state: Mapping[str, Tensor], side: Side, decoder_layers: int) -> bool:
    if side is Side.OFFICIAL:
        return any(key.startswith("transformer.decoder.bbox_embed.") for key in state)
    shared = not any(re.match(r"heads\.(class|box)_heads\.[1-9]", key) for key in state)
    return not (shared and decoder_layers > 1)


def _count_levels(state: Mapping[str, Tensor], side: Side) -> tuple[int, int]:
    """Levels made of backbone maps, by 1x1 convolutions, and levels below, by 3x3 ones."""
    if side is Side.OURS:
        projections = (r"neck\.projections\.(\d+)\.",) * 2
        extra = (r"neck\.extra_levels\.(\d+)\.",) * 2
        return _count(projections, state, side), _count(extra, state, side)
    levels = _count((r"input_proj\.(\d+)\.",) * 2, state, side)
    large = [
        level
        for level in range(levels)
        if (weight := state.get(f"input_proj.{level}.0.weight")) is not None
        and weight.ndim == 4
        and weight.shape[-1] > 1
    ]
    return levels - len(large), len(large)


def _all(patterns: tuple[str, str], state: Iterable[str], side: Side) -> Iterable[re.Match[str]]:
    compiled = re.compile(patterns[side.value])
    return [found for key in state if (found := compiled.match(key))]


def _has(patterns: tuple[str, str], state: Iterable[str], side: Side) -> bool:
    return bool(_all(patterns, state, side))


def _count(patterns: tuple[str, str], state: Iterable[str], side: Side) -> int:
    """One more than the largest number in the first group; 0 if nothing matches."""
    return 1 + max((int(found[1]) for found in _all(patterns, state, side)), default=-1)


def _some(keys: Iterable[str], count: int = 3) -> str:
    names = sorted(keys)
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")
