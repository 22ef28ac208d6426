"""Products of matrices in float32 that go to oneDNN.

On CPUs torch gives linear layers in float32 to its BLAS and convolutions to oneDNN, which on some
processors is faster at the same product (twice, for a feed-forward, on the AMD EPYC it ran on).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# With one thread torch gives 1x1 convolutions to the BLAS too, unless they are dilated. To a kernel
# of one pixel dilation does nothing.
_DILATED = (2, 2)


class PointwiseLinear(nn.Module):
    """A linear layer that is computed as a 1x1 convolution over a column of tokens.

    Args:
        linear: whose weights are taken.
    """

    def __init__(self, linear: nn.Linear):
        super().__init__()
        weight = linear.weight.detach()[:, :, None, None]
        self.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last))
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        if x.numel() == 0:  # convolutions refuse it
            return F.linear(x, self.weight.flatten(1), self.bias)
        # (1, C, rows, 1), in memory as it is: that is the layout called "channels last".
        column = x.reshape(1, -1, 1, x.shape[-1]).permute(0, 3, 1, 2)
        result = F.conv2d(column, self.weight, self.bias, dilation=_DILATED)
        return result.permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)


def dilate_pixel_kernels(root: nn.Module) -> None:
    """The same for convolutions of ``root`` that are linear layers of every pixel."""
    for module in root.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1):
            module.dilation = _DILATED
