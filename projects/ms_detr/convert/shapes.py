"""Shapes of a state dict, checked against each other; no model is built."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from torch import Tensor

from .errors import CheckpointError
from .layout import Layout, ResNetLayout
from .names import Pair

# Sizes that tensors share: E channels, L levels, C classes, O outputs of the first stage, Q
# queries; F, D, B feed-forward channels of the encoder, of the decoder, of the one-to-many branch;
# S, T heads times points times levels of the encoder's and of the decoder's attention.  "2E" is
# twice E, "*" is any size.  Weights go by (output, input); a bias has the output alone.
_LINEAR = {
    r"encoder\.layers\.\d+\.attention\.sampling_offsets": "2S E",
    r"encoder\.layers\.\d+\.attention\.attention_weights": "S E",
    r"decoder\.layers\.\d+\.cross_attention\.sampling_offsets": "2T E",
    r"decoder\.layers\.\d+\.cross_attention\.attention_weights": "T E",
    r"(en|de)coder\.layers\.\d+\.(cross_)?attention\.(value|output)_proj": "E E",
    r"decoder\.layers\.\d+\.self_attention\.out_proj": "E E",
    r"encoder\.layers\.\d+\.feed_forward\.linear1": "F E",
    r"encoder\.layers\.\d+\.feed_forward\.linear2": "E F",
    r"decoder\.layers\.\d+\.feed_forward\.linear1": "D E",
    r"decoder\.layers\.\d+\.feed_forward\.linear2": "E D",
    r"supervisions\.mixed\.branch\.layers\.\d+\.linear1": "B E",
    r"supervisions\.mixed\.branch\.layers\.\d+\.linear2": "E B",
    r"(heads|supervisions\.mixed)\.class_heads\.\d+": "C E",
    r"(heads\.box_heads\.\d+|queries\.proposals\.box_head)\.layers\.[01]": "E E",
    r"(heads\.box_heads\.\d+|queries\.proposals\.box_head)\.layers\.2": "4 E",
    r"queries\.proposals\.class_head": "O E",
    r"queries\.proposals\.projection": "E E",
    r"queries\.projection": "2E 2E",
    r"queries\.reference_points": "2 E",
    r"neck\.projections\.\d+\.0": "E * 1 1",
    r"neck\.extra_levels\.\d+\.0": "E * 3 3",
}
_NORMS = {
    r"(en|de)coder\.layers\.\d+\.((cross_|self_)?norm|feed_forward\.norm)": "E",
    r"supervisions\.mixed\.branch\.layers\.\d+\.norm": "E",
    r"neck\.(projections|extra_levels)\.\d+\.1": "E",
    r"queries\.proposals\.norm": "E",
    r"queries\.norm": "2E",
}
_OTHERS = {
    r"encoder\.level_embed": "L E",
    r"decoder\.layers\.\d+\.self_attention\.in_proj_weight": "3E E",
    r"decoder\.layers\.\d+\.self_attention\.in_proj_bias": "3E",
    r"queries\.content\.weight": "Q E",
    r"queries\.embedding\.weight": "Q 2E",
}
_RULES = [
    *((rf"{module}\.weight", sizes) for module, sizes in _LINEAR.items()),
    *((rf"{module}\.bias", sizes.split()[0]) for module, sizes in _LINEAR.items()),
    *((rf"{module}\.(weight|bias)", sizes) for module, sizes in _NORMS.items()),
    *_OTHERS.items(),
]
_COMPILED = [(re.compile(pattern), tuple(sizes.split())) for pattern, sizes in _RULES]
_SIZE = re.compile(r"(\d*)([A-Z]?)")
_SHOWN = 10


def check_shapes(tensors: Mapping[str, Tensor], pairs: Sequence[Pair], layout: Layout) -> None:
    """The shapes of a model belong together: what one tensor gives, the next one takes.

    A size that many tensors share is what most of them say.

    Args:
        tensors: the model's tensors, by our names or by the official ones, all of them.
        pairs: their names.
        layout: the kind of model.

    Raises:
        CheckpointError: shapes do not belong together, with their keys.
    """
    own_names = pairs[0].ours in tensors
    keys = {pair.ours: pair.ours if own_names else pair.theirs[0] for pair in pairs}
    shapes = {ours: tuple(tensors[key].shape) for ours, key in keys.items()}
    wrong = list(_wrong_by_rule(shapes, layout)) or list(_wrong_in_backbone(shapes, layout))
    if wrong:
        lines = [f"{keys[key]} has shape {shapes[key]}, not {fits}" for key, fits in wrong[:_SHOWN]]
        lines += [f"and {len(wrong) - _SHOWN} more"] if len(wrong) > _SHOWN else []
        raise CheckpointError(
            f"the shapes of {len(wrong)} tensors do not fit those of the others; the checkpoint is "
            "damaged or of another model:\n    " + "\n    ".join(lines)
        )


def _wrong_by_rule(
    shapes: Mapping[str, tuple[int, ...]], layout: Layout
) -> Iterator[tuple[str, str]]:
    """(key, shape that would fit) of tensors outside the backbone."""
    rules = {key: rule for key in shapes if (rule := _rule(key))}
    votes: dict[str, Counter[int]] = defaultdict(Counter)
    for key, rule in rules.items():
        if len(rule) != len(shapes[key]):
            continue
        for size, found in zip(rule, shapes[key]):
            factor, name = _SIZE.fullmatch(size).groups() if size != "*" else ("", "")
            if name and found % int(factor or 1) == 0:
                votes[name][found // int(factor or 1)] += 1
    sizes = {name: counts.most_common(1)[0][0] for name, counts in votes.items()}
    sizes["L"] = levels = layout.maps + layout.extra_levels
    for name in "ST":
        if levels and name in sizes:
            sizes[name] -= sizes[name] % levels
    for key, rule in rules.items():
        expected = [_resolve(size, sizes) for size in rule]
        fits = len(rule) == len(shapes[key]) and all(
            size in ("*", found) for size, found in zip(expected, shapes[key])
        )
        if not fits:
            yield key, _write(expected)


def _rule(key: str) -> tuple[str, ...] | None:
    return next((sizes for pattern, sizes in _COMPILED if pattern.fullmatch(key)), None)


def _resolve(size: str, sizes: Mapping[str, int]) -> int | str:
    """A size as a number; as it is written if no tensor says it."""
    if size == "*":
        return size
    factor, name = _SIZE.fullmatch(size).groups()
    if not name:
        return int(factor)
    return int(factor or 1) * sizes[name] if name in sizes else size


def _wrong_in_backbone(
    shapes: Mapping[str, tuple[int, ...]], layout: Layout
) -> Iterator[tuple[str, str]]:
    """(key, shape that would fit) of the backbone's tensors, and of what reads its maps."""
    convolutions = [
        key
        for key in shapes
        if re.fullmatch(r"(backbone\..*(conv\d|shortcut)|neck\..*\.0)\.weight", key)
    ]
    flat = [key for key in convolutions if len(shapes[key]) != 4]
    if flat:
        yield from ((key, "(out, in, height, width)") for key in flat)
        return
    for key in convolutions:
        norm = key.removesuffix("weight") + "norm."
        for name in ("weight", "bias", "running_mean", "running_var"):
            if shapes.get(norm + name, shapes[key][:1]) != shapes[key][:1]:
                yield norm + name, _write(shapes[key][:1])
        counter = f"{norm}num_batches_tracked"
        if shapes.get(counter):
            yield counter, "()"
    outputs: list[int] = []
    yield from _wrong_blocks(shapes, layout.backbone, outputs)
    yield from _wrong_neck(shapes, layout, outputs)


def _wrong_blocks(
    shapes: Mapping[str, tuple[int, ...]], resnet: ResNetLayout, outputs: list[int]
) -> Iterator[tuple[str, str]]:
    """Blocks of a ResNet; appends the channels of every stage to ``outputs``."""
    channels = shapes["backbone.stem.conv1.weight"][0]
    kernels = (1, 3, 1) if resnet.convolutions == 3 else (3,) * resnet.convolutions
    for stage, blocks in enumerate(resnet.blocks):
        for index in range(blocks):
            block, entry = f"backbone.res{stage + 2}.{index}", channels
            for number, kernel in enumerate(kernels, start=1):
                key = f"{block}.conv{number}.weight"
                out, given, *size = shapes[key]
                # Grouped convolutions see a part of their input.
                if given < 1 or channels % given or size != [kernel, kernel]:
                    yield key, _write((out, channels, kernel, kernel))
                channels = out
            key = f"{block}.shortcut.weight"
            if shapes.get(key, (channels, entry, 1, 1)) != (channels, entry, 1, 1):
                yield key, _write((channels, entry, 1, 1))
        outputs.append(channels)


def _wrong_neck(
    shapes: Mapping[str, tuple[int, ...]], layout: Layout, outputs: Iterable[int]
) -> Iterator[tuple[str, str]]:
    """Projections read maps of the backbone, finest first; levels below read the one above."""
    left = iter(outputs)
    given = 0
    for index in range(layout.maps):
        key = f"neck.projections.{index}.0.weight"
        given = shapes[key][1]
        if not any(channels == given for channels in left):
            yield key, f"({shapes[key][0]}, channels of a later map of the backbone, 1, 1)"
            return
    for index in range(layout.extra_levels):
        key = f"neck.extra_levels.{index}.0.weight"
        if shapes[key][1] != given and given:
            yield key, _write((shapes[key][0], given, 3, 3))
        given = shapes[key][0]


def _write(sizes: Iterable[int | str]) -> str:
    return "(" + ", ".join(str(size) for size in sizes) + ")"
