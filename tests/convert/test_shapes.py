"""Shapes that do not belong together are refused, on both sides; those that do are not."""

from __future__ import annotations

import re

import pytest
import torch
from official_states import MODELS, official, ours

from ms_detr.convert import CheckpointError, to_official, to_ours

# Official key, what is done to it, and what is said.
DAMAGES = [
    ("transformer.encoder.layers.0.norm1.weight", lambda t: torch.ones(20),
     r"has shape \(20,\), not \(32\)"),
    ("transformer.decoder.layers.1.linear1.weight", torch.flatten, r"\(1536,\), not \(48, 32\)"),
    ("transformer.level_embed", lambda t: torch.tensor(1.0), r"has shape \(\), not \(4, 32\)"),
    ("transformer.level_embed", lambda t: t[:3], r"\(3, 32\), not \(4, 32\)"),
    ("transformer.decoder.layers.0.linear3.weight", lambda t: t[:40], r"\(40, 32\), not \(48, 32"),
    ("transformer.decoder.layers.0.self_attn.in_proj_bias", lambda t: t[1:], r"not \(96\)"),
    ("transformer.encoder.layers.1.self_attn.sampling_offsets.bias", lambda t: t[:-4], "not"),
    ("class_embed.0.bias", lambda t: torch.tensor(0.0), r"not \(91\)"),
    ("input_proj.0.0.weight", lambda t: t[..., 0, 0], r"not \(32, \*, 1, 1\)"),
    ("input_proj.3.0.weight", lambda t: t[:, :40], r"\(32, 40, 3, 3\), not \(32, 128, 3, 3\)"),
    ("input_proj.1.0.weight", lambda t: t[:, :40], "channels of a later map of the backbone"),
    ("backbone.0.body.conv1.weight", torch.flatten, r"not \(out, in, height, width\)"),
    ("backbone.0.body.layer2.0.conv1.weight", torch.flatten, r"not \(out, in, height, width\)"),
    ("backbone.0.body.layer3.0.conv2.weight", lambda t: t[:, :30], r"not \(64, 64, 3, 3\)"),
    ("backbone.0.body.layer1.0.bn1.running_var", lambda t: t[0], r"not \(16\)"),
]  # fmt: skip


@pytest.mark.parametrize("key, damage, message", DAMAGES)
def test_shape_that_does_not_belong_to_the_others(key, damage, message):
    state = official("models/ms_detr.py")
    shape = state[key].shape
    for copy in [name for name in state if name.endswith(key)]:
        state[copy] = damage(state[copy]).clone()
    assert state[key].shape != shape
    with pytest.raises(CheckpointError, match=re.escape(key) + ".*" + message):
        to_ours(state)


def test_many_wrong_shapes_are_counted():
    state = {key: value.flatten()[:1] for key, value in official("models/ms_detr.py").items()}
    with pytest.raises(CheckpointError, match=r"of \d+ tensors (.|\n)*and \d+ more"):
        to_ours(state)


@pytest.mark.parametrize("config", MODELS)
def test_no_tensor_can_have_another_shape_unseen(config):
    """With one row less, or one more dimension, any one of our tensors is refused."""
    state = ours(config)
    # Rows of a first stage and of queries are numbers of their own; those of a stem's input, too.
    free = r"queries\.(content|embedding)\.weight|.*num_batches_tracked"
    keys = [key for key in state if not re.fullmatch(free, key)]
    for number, key in enumerate(keys):
        value = state[key]
        damaged = value[None] if number % 2 else value[:-1]
        with pytest.raises(CheckpointError):
            to_official({**state, key: damaged}, family=MODELS[config])


def test_special_tensors_are_named():
    for special in (torch.eye(4).to_sparse(), torch.empty(4, 32, device="meta")):
        state = {**official("models/ms_detr.py"), "transformer.level_embed": special}
        with pytest.raises(CheckpointError, match=r"sparse.*transformer\.level_embed"):
            to_ours(state)


def test_own_sizes_are_no_damage():
    """Widths of the feed-forwards differ, and the first stage has a single output."""
    state = ours("models/ms_detr.py")
    for key in state:
        if re.search(
            r"decoder\.layers\.\d\.feed_forward\.linear1|branch\.layers\.\d\.linear1", key
        ):
            state[key] = state[key][:24]
        if re.search(r"decoder\.layers\.\d\.feed_forward\.linear2.w|branch.*linear2.w", key):
            state[key] = state[key][:, :24]
        if "proposals.class_head" in key:
            state[key] = state[key][:1]
    to_official(state)
