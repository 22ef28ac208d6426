"""The ResNet with folded norms is detectron2's ResNet."""

from __future__ import annotations

import copy

import pytest
import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from detectron2.modeling.backbone import BasicStem, ResNet
from detectron2.modeling.backbone.resnet import BottleneckBlock

from ms_detr.backbone import FoldedResNet


def resnet(kind, freeze_at=2):
    """Three stages of bottleneck blocks, with norms that do something."""
    torch.manual_seed(0)
    stem = BasicStem(in_channels=3, out_channels=8, norm="FrozenBN")
    stages = [
        ResNet.make_stage(
            BottleneckBlock, 2, stride_per_block=[stride, 1], in_channels=ins, out_channels=outs,
            bottleneck_channels=outs // 2, norm="FrozenBN",
        )
        for stride, ins, outs in ((1, 8, 16), (2, 16, 32))
    ]  # fmt: skip
    model = kind(stem, stages, out_features=["res2", "res3"], freeze_at=freeze_at)
    for norm in model.modules():
        if isinstance(norm, FrozenBatchNorm2d):
            norm.weight.uniform_(0.5, 2)
            norm.bias.normal_()
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
    return model.train()


def outcome(model, x):
    x = x.clone().requires_grad_()
    maps = model(x)
    total = 0
    for y in maps.values():
        total = total + (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)).sum()
    total.backward()
    return [*maps.values(), x.grad, *(p.grad for p in model.parameters() if p.requires_grad)]


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
@pytest.mark.parametrize("images", [1, 2])
def test_same_maps_and_gradients(dtype, limit, images):
    ours, plain = (resnet(kind).to(dtype) for kind in (FoldedResNet, ResNet))
    x = torch.randn(images, 3, 37, 50, dtype=dtype)
    for found, expected in zip(outcome(ours, x), outcome(plain, x)):
        assert found.dtype == expected.dtype
        scale = expected.abs().max().item()
        torch.testing.assert_close(found, expected, rtol=limit, atol=limit * scale)


def test_names_and_frozen_stages():
    ours, plain = resnet(FoldedResNet), resnet(ResNet)
    assert list(ours.state_dict()) == list(plain.state_dict())
    ours.load_state_dict(plain.state_dict())
    trained = {name for name, p in ours.named_parameters() if p.requires_grad}
    assert trained == {name for name, p in plain.named_parameters() if p.requires_grad}
    assert trained and all(name.startswith("res3") for name in trained)


def test_frozen_stages_have_no_graph():
    maps = resnet(FoldedResNet)(torch.randn(1, 3, 32, 32))
    assert not maps["res2"].requires_grad and maps["res3"].requires_grad


def test_copy_has_its_own_weights():
    ours = resnet(FoldedResNet)
    other, x = copy.deepcopy(ours), torch.randn(1, 3, 32, 32)
    before = ours(x)["res3"]
    for parameter in ours.parameters():
        parameter.data.zero_()
    assert torch.equal(other(x)["res3"], before)


def test_new_statistics_count():
    """Nothing is kept from when the model was built: checkpoints are loaded later."""
    ours, x = resnet(FoldedResNet), torch.randn(1, 3, 32, 32)
    before = ours(x)["res2"]
    ours.stem.conv1.norm.running_mean += 1
    assert not torch.allclose(ours(x)["res2"], before)


def test_norm_that_was_removed():
    ours = resnet(FoldedResNet)
    for module in ours.modules():
        if type(module) is Conv2d:
            module.norm = None
    assert ours(torch.randn(1, 3, 32, 32))["res3"].isfinite().all()
