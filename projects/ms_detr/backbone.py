"""ResNet whose frozen batch norms cost nothing."""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from detectron2.modeling.backbone import ResNet
from torch import Tensor


class FoldedResNet(ResNet):
    """detectron2's ResNet; frozen batch norms scale the weights of convolutions, not their outputs.

    ``norm(conv(x, weight))`` is ``conv(x, weight * scale) + shift``, with the same gradients: maps
    are not written and read twice more.  Names and values of all weights and buffers are those of
    ``ResNet``, which also says what the arguments are.  On CPUs maps are computed with channels
    last.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        for module in self.modules():
            if type(module) is Conv2d and type(module.norm) is FrozenBatchNorm2d:
                module.forward = functools.partial(_folded, module)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Maps by name; (B, 3, H, W) in."""
        if x.device.type == "cpu":
            x = x.contiguous(memory_format=torch.channels_last)
        return super().forward(x)


def _folded(convolution: Conv2d, x: Tensor) -> Tensor:
    norm = convolution.norm
    if norm is None:  # folded for good, for inference
        return type(convolution).forward(convolution, x)
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    shift = norm.bias - norm.running_mean * scale
    if convolution.bias is not None:
        shift = shift + convolution.bias * scale
    x = F.conv2d(
        x,
        convolution.weight * scale.view(-1, 1, 1, 1),
        shift,
        convolution.stride,
        convolution.padding,
        convolution.dilation,
        convolution.groups,
    )
    return x if convolution.activation is None else convolution.activation(x)
