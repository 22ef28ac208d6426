"""Class and box predictors of the decoder layers."""

import math

from torch import Tensor, nn

from ..layers import MLP
from ..structures import LayerPredictions
from .boxes import apply_delta


def class_head(embed_dim: int, num_classes: int, prior_probability: float = 0.01) -> nn.Linear:
    """Linear classifier; its initial scores are all ``prior_probability`` (RetinaNet, 4.1)."""
    head = nn.Linear(embed_dim, num_classes)
    nn.init.constant_(head.bias, -math.log((1 - prior_probability) / prior_probability))
    return head


def box_head(embed_dim: int) -> MLP:
    """Three-layer perceptron that at first predicts the reference itself."""
    head = MLP([embed_dim, embed_dim, embed_dim, 4])
    nn.init.zeros_(head.layers[-1].weight)
    nn.init.zeros_(head.layers[-1].bias)
    return head


class PredictionHeads(nn.Module):
    """One class head and one box head per decoder layer; all supervisions share them.

    Args:
        embed_dim: channels of the query states.
        num_classes: classes, without background.
        num_layers: decoder layers.
        initial_size_logit: initial width and height of the first layer's boxes, as a logit, on top
            of the reference.  Use -2.0 where references are points (published one-stage models).
    """

    def __init__(
        self,
        *,
        embed_dim: int = 256,
        num_classes: int,
        num_layers: int = 6,
        initial_size_logit: float = 0.0,
    ):
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, got {num_classes}")
        self.num_classes = num_classes
        self.class_heads = nn.ModuleList(
            class_head(embed_dim, num_classes) for _ in range(num_layers)
        )
        self.box_heads = nn.ModuleList(box_head(embed_dim) for _ in range(num_layers))
        nn.init.constant_(self.box_heads[0].layers[-1].bias[2:], initial_size_logit)

    def box_delta(self, states_BNC: Tensor, layer: int) -> Tensor:
        """Shift (B, N, 4) of the reference, in logits, at least in float32."""
        delta = self.box_heads[layer](states_BNC)
        return delta if delta.dtype.itemsize > 2 else delta.float()

    def forward(self, states_BNC: Tensor, reference_BNr: Tensor, layer: int) -> LayerPredictions:
        """Predictions of one layer from query states relative to references."""
        logits = self.class_heads[layer](states_BNC)
        boxes = apply_delta(self.box_delta(states_BNC, layer), reference_BNr)
        return LayerPredictions(logits if logits.dtype.itemsize > 2 else logits.float(), boxes)
