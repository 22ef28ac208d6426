"""Batch norm that is constant, as a part of the convolution before it."""

from __future__ import annotations

from typing import Any

import detectron2.layers
import torch
from detectron2.layers import FrozenBatchNorm2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights


def fold_batch_norm(root: nn.Module) -> int:
    """Fold batch norms of ``root`` into the convolutions that they follow.

    That are the ``norm`` of detectron2's ``Conv2d``, and one that follows a ``Conv2d`` in a
    ``Sequential``; of other modules it is not known what they do between the two.  A batch norm
    without running statistics, which takes those of the batch, stays, and so does every other norm.

    Returns:
        How many were folded.
    """
    folded = 0
    modules: list[Any] = list(root.modules())
    for module in modules:
        if type(module) is detectron2.layers.Conv2d and is_constant(module.norm):
            _fold(module, module.norm)
            module.norm = None
            folded += 1
        elif type(module) is nn.Sequential:
            for index in range(len(module) - 1):
                convolution, norm = module[index], module[index + 1]
                if type(convolution) is nn.Conv2d and is_constant(norm):
                    _fold(convolution, norm)
                    module[index + 1] = nn.Identity()
                    folded += 1
    return folded


def is_constant(norm: Any) -> bool:
    """Whether this is a batch norm that does the same to every batch at inference."""
    if isinstance(norm, FrozenBatchNorm2d):
        return True
    return isinstance(norm, _BatchNorm) and norm.running_mean is not None


def _fold(convolution: Any, norm: Any) -> None:
    # In double precision, so that folding rounds once.
    def double(values: Tensor | None) -> Any:
        return None if values is None else values.detach().double()

    dtype = convolution.weight.dtype
    weight, bias = fuse_conv_bn_weights(
        double(convolution.weight),
        double(convolution.bias),
        double(norm.running_mean),
        double(norm.running_var),
        norm.eps,
        double(norm.weight),
        double(norm.bias),
    )
    with torch.no_grad():
        convolution.weight = nn.Parameter(weight.to(dtype))
        convolution.bias = nn.Parameter(bias.to(dtype))
