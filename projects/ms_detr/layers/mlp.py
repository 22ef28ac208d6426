"""A plain multi-layer perceptron."""

import torch.nn.functional as F
from torch import Tensor, nn


class MLP(nn.Module):
    """Linear layers with ReLU between them.

    Args:
        widths: channels from input to output; ``[256, 256, 256, 4]`` has three layers.
    """

    def __init__(self, widths: list[int]):
        super().__init__()
        widths = list(widths)
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in zip(widths[:-1], widths[1:]))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)
