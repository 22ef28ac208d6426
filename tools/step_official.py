"""Other forms of our detector, first of all the published one, for tools/benchmark_step.py.

Same weights, same results (without dropout); the parts are written from the definitions, with
PyTorch's own operations.
"""

from __future__ import annotations

import functools

import criterion_loops
import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d
from detectron2.modeling.backbone import ResNet
from op_arms import Problem, official
from torch import Tensor, nn

from ms_detr.backbone import FoldedResNet
from ms_detr.engine import recompute_parts
from ms_detr.layers import (
    Dropout,
    FeedForward,
    MultiScaleDeformableAttention,
    QuerySelfAttention,
)
from ms_detr.structures import FeaturePyramid
from ms_detr.supervision import SupervisionSet


def official_form(detector: nn.Module, *kinds: type[nn.Module]) -> None:
    """Make the parts of a detector, or those of some kinds, compute in the official form.

    Replaced are the operator (grid_sample, level by level, stacked), dropout and feed-forward
    (PyTorch's, everything kept), self-attention (``torch.nn.MultiheadAttention``'s, which also
    returns the mean of its weights), detectron2's frozen batch norm, on maps with channels first,
    and matching and losses (loops over layers and images).
    """
    for part in detector.modules():
        form = _FORMS.get(type(part))
        if form is not None and (not kinds or type(part) in kinds):
            part.forward = functools.partial(form, part)  # type: ignore[method-assign]


def _attention(
    part: MultiScaleDeformableAttention,
    query_BNC: Tensor,
    reference_BNr: Tensor,
    memory: FeaturePyramid,
) -> Tensor:
    images, queries, _ = query_BNC.shape
    levels, points = part.num_levels, part.num_points
    sampled = (images, queries, part.num_heads, levels, points)
    value = part.value_proj(memory.tokens_BSC).masked_fill(memory.padding_BS[..., None], 0.0)
    value = value.view(images, value.shape[1], part.num_heads, -1)
    offsets = part.sampling_offsets(query_BNC).view(*sampled, 2)
    logits = part.attention_weights(query_BNC).view(*sampled[:3], -1)
    ratios = memory.valid_ratios_BL2.repeat(1, 1, reference_BNr.shape[-1] // 2)
    reference = reference_BNr[:, :, None] * ratios[:, None]
    around = reference[:, :, None, :, None]
    if reference_BNr.shape[-1] == 2:
        cells = offsets.new_tensor([(width, height) for height, width in memory.shapes])
        locations = around + offsets / cells[:, None]
    else:
        locations = around[..., :2] + offsets * around[..., 2:] * (0.5 / points)
    weights = logits.softmax(-1).view(sampled)
    problem = Problem(
        shapes=memory.shapes,
        value=value,
        reference=reference,
        offsets=offsets,
        logits=logits,
        locations=locations,
        weights=weights,
        grad=value,  # the operator alone does not read it
    )
    return part.output_proj(official(problem))


def _feed_forward(part: FeedForward, x: Tensor) -> Tensor:
    hidden = part.dropout1(part.activation(part.linear1(x)))
    return part.norm(x + part.dropout2(part.linear2(hidden)))


def _dropout(part: Dropout, x: Tensor) -> Tensor:
    return F.dropout(x, part.p, part.training)


def _self_attention(
    part: QuerySelfAttention, content_BNC: Tensor, pos_BNC: Tensor, groups: object = ()
) -> Tensor:
    del groups  # one group: that of the detector
    key, value = ((content_BNC + pos_BNC).transpose(0, 1), content_BNC.transpose(0, 1))
    attended, _ = F.multi_head_attention_forward(
        key, key, value, content_BNC.shape[-1], part.num_heads,
        part.in_proj_weight, part.in_proj_bias, None, None, False, part.dropout,
        part.out_proj.weight, part.out_proj.bias, training=part.training,
    )  # fmt: skip
    return attended.transpose(0, 1)


def _convolution(part: Conv2d, x: Tensor) -> Tensor:
    return Conv2d.forward(part, x)


def _backbone(part: FoldedResNet, x: Tensor) -> dict[str, Tensor]:
    return ResNet.forward(part, x)


def checkpointed(detector: nn.Module) -> None:
    """Keep the inputs of encoder and decoder layers only."""
    recompute_parts(detector, ["encoder.layers", "decoder.layers"])


def bfloat16(detector: nn.Module) -> None:
    """Run a detector under autocast."""
    forward = detector.forward

    def run(batch: list[dict]) -> object:
        with torch.autocast(detector.device.type, dtype=torch.bfloat16):
            return forward(batch)

    detector.forward = run  # type: ignore[method-assign]


_FORMS = {
    Conv2d: _convolution,
    FoldedResNet: _backbone,
    MultiScaleDeformableAttention: _attention,
    FeedForward: _feed_forward,
    Dropout: _dropout,
    QuerySelfAttention: _self_attention,
    SupervisionSet: criterion_loops.criterion,
}
