"""Which parameter gets which learning rate."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ms_detr.engine import get_parameter_groups


def model() -> nn.Module:
    attention = nn.ModuleDict({"sampling_offsets": nn.Linear(2, 2), "value": nn.Linear(2, 2)})
    return nn.ModuleDict(
        {
            "backbone": nn.ModuleDict({"stem": nn.Linear(2, 2), "res2": nn.Linear(2, 2)}),
            "backbone_norm": nn.LayerNorm(2),
            "encoder": attention,
        }
    )


def rates(net: nn.Module, groups: list[dict]) -> dict[str, float]:
    names = {id(p): name for name, p in net.named_parameters()}
    pairs = [(names[id(p)], group["lr"]) for group in groups for p in group["params"]]
    assert len(pairs) == len(dict(pairs)), "a parameter is in two groups"
    return dict(pairs)


def test_whole_components_only():
    net = model()
    found = rates(net, get_parameter_groups(net, 1.0, {"backbone": 0.1, "sampling_offsets": 0.5}))
    assert set(found) == {name for name, _ in net.named_parameters()}
    assert found["backbone.stem.weight"] == found["backbone.res2.bias"] == 0.1
    assert found["backbone_norm.weight"] == 1.0, "backbone_norm is another component"
    assert found["encoder.sampling_offsets.bias"] == 0.5
    assert found["encoder.value.weight"] == 1.0


def test_dotted_key_and_first_key_wins():
    net = model()
    found = rates(net, get_parameter_groups(net, 1.0, {"backbone.stem": 0.2, "backbone": 0.1}))
    assert found["backbone.stem.weight"] == 0.2
    assert found["backbone.res2.weight"] == 0.1


def test_frozen_left_out_and_shared_once():
    net = model()
    net["backbone"]["stem"].requires_grad_(False)
    net["head_a"] = nn.Linear(2, 2)
    net["head_b"] = net["head_a"]
    found = rates(net, get_parameter_groups(net, 1.0, {"backbone": 0.1}))
    assert not any("stem" in name for name in found)
    assert sum(name.startswith("head") for name in found) == 2


def test_multiplier_that_covers_nothing():
    net = model()
    rates(net, get_parameter_groups(net, 1.0, {"reference_points": 0.1}))
    with pytest.raises(ValueError, match="reference_points"):
        get_parameter_groups(net, 1.0, {"reference_points": 0.1}, strict=True)
    net.requires_grad_(False)
    with pytest.raises(ValueError, match="nothing to train"):
        get_parameter_groups(net, 1.0)


@pytest.mark.parametrize("factor", [0, -1.0, float("nan"), "0.1"])
def test_bad_multiplier(factor):
    with pytest.raises(ValueError, match=r"lr_multipliers\['backbone'\]"):
        get_parameter_groups(model(), 1.0, {"backbone": factor})


def test_weight_decay_is_the_optimizers_for_all():
    net = model()
    optimizer = torch.optim.AdamW(
        get_parameter_groups(net, 2e-4, {"backbone": 0.1}), weight_decay=3
    )
    assert {group["weight_decay"] for group in optimizer.param_groups} == {3}
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([2e-4, 2e-5])
