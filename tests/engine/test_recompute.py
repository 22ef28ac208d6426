"""Activation checkpointing: the same gradients, less kept."""

from __future__ import annotations

import copy

import pytest
import torch
from small_models import build, item
from torch import nn

from ms_detr.engine import do_train, recompute_parts
from ms_detr.errors import ConfigError

PARTS = ["encoder.layers", "decoder.layers"]


def step(model, batch):
    """Losses, gradients, and how many numbers autograd keeps."""
    kept = {}
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def pack(tensor):
        if tensor.untyped_storage().data_ptr() not in parameters:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    torch.manual_seed(3)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        losses = model(batch)
    sum(losses.values()).backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return losses, gradients, sum(kept.values())


@pytest.mark.parametrize("parts", [PARTS, ["encoder", "decoder.layers.0"], ["neck"]])
def test_same_losses_and_gradients(parts):
    """Bit by bit, with dropout: the second pass draws the numbers of the first."""
    plain = build("models/ms_detr.py", dropout=0.3).train()
    sparing = copy.deepcopy(plain)
    names = list(sparing.state_dict())
    recompute_parts(sparing, parts)
    assert list(sparing.state_dict()) == names
    batch = [item(64, 96, 2), item(64, 64, 1, seed=1)]
    losses, gradients, kept = step(plain, batch)
    other_losses, other_gradients, other_kept = step(sparing, batch)
    assert all(torch.equal(losses[name], other_losses[name]) for name in losses)
    assert gradients.keys() == other_gradients.keys()
    assert all(torch.equal(gradients[name], other_gradients[name]) for name in gradients)
    assert other_kept < kept


def test_lists_of_layers_are_parted():
    model = build("models/ms_detr.py")
    parts = recompute_parts(model, PARTS)
    assert parts == [*model.encoder.layers, *model.decoder.layers]
    assert recompute_parts(model, []) == []


def test_inference_and_copies():
    model = build("models/ms_detr.py").eval()
    image = torch.rand(1, 3, 64, 64)
    expected = model.detect(image, [(64, 64)])[0].references[-1]
    recompute_parts(model, PARTS)
    for one in (model, copy.deepcopy(model)):
        assert torch.equal(one.detect(image, [(64, 64)])[0].references[-1], expected)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("encoder", r"give a list, train.activation_checkpointing=\[encoder\]"),
        (["encoder.layer"], r"names 'encoder.layer', .* did you mean encoder.layers\?"),
        ([""], "names ''"),
        (["encoder", "encoder.layers"], "encoder.layers.0, which lies in encoder"),
        (["backbone"], "backbone, but its batch norm stem.conv1.norm would learn .* twice"),
    ],
)
def test_refusals(names, words):
    with pytest.raises(ConfigError, match=words):
        recompute_parts(build("models/ms_detr.py"), names)


def test_training_reads_the_list(tiny_config):
    with pytest.raises(ConfigError, match="names 'boxed', .* did you mean boxes"):
        do_train(tiny_config("train.activation_checkpointing=[boxed]"))
    assert do_train(tiny_config("train.activation_checkpointing=[boxes]", "train.max_iter=2"))


def test_list_of_nothing():
    model = nn.ModuleDict({"layers": nn.ModuleList()})
    assert recompute_parts(model, ["layers"]) == []
