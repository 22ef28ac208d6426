"""The fused optimizer is the plain one, and takes over from it."""

from __future__ import annotations

import copy

import pytest
import torch
from detectron2.config import instantiate
from small_models import load
from torch import nn


def optimizer_of(model: nn.Module, fused: bool | None) -> torch.optim.Optimizer:
    node = load("common/optim.py").AdamW
    assert node.fused is True
    node.fused = fused
    node.params.model = model
    return instantiate(node)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    generator = torch.Generator().manual_seed(steps)
    for _ in range(steps):
        x = torch.randn(4, 6, generator=generator).double()
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2)).double()


@pytest.mark.parametrize("first", [True, None])
@pytest.mark.parametrize("then", [True, None])
def test_same_steps_also_after_a_resume(first, then, tmp_path):
    plain = small()
    optimizer = optimizer_of(plain, None)
    train(plain, optimizer, 5)
    train(plain, optimizer, 3)
    model = small()
    before = optimizer_of(model, first)
    train(model, before, 5)
    torch.save(before.state_dict(), tmp_path / "state.pth")
    resumed = copy.deepcopy(model)
    after = optimizer_of(resumed, then)
    after.load_state_dict(torch.load(tmp_path / "state.pth", weights_only=True))
    train(resumed, after, 3)
    for one, other in zip(resumed.parameters(), plain.parameters()):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
