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


class LayerHeads(nn.ModuleList):
    """Heads of one kind: one per decoder layer, or a single one that all layers share."""

    def forward(self, states_BNC: Tensor, layer: int) -> Tensor:
        """Output of the head of ``layer``, at least in float32."""
        output = self[layer if len(self) > 1 else 0](states_BNC)
        return output if output.dtype.itemsize > 2 else output.float()


class ClassHeads(LayerHeads):
    """Class logits (B, N, K) from query states (B, N, C).

    Args:
        embed_dim: channels of the query states.
        num_classes: classes, without background.
        num_layers: decoder layers; 1: all layers share one head.
    """

    def __init__(self, *, embed_dim: int = 256, num_classes: int, num_layers: int = 6):
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, got {num_classes}")
        super().__init__(class_head(embed_dim, num_classes) for _ in range(num_layers))


class BoxHeads(LayerHeads):
    """Shift of the reference (B, N, 4), in logits, from query states (B, N, C).

    Args:
        embed_dim: channels of the query states.
        num_layers: decoder layers; 1: all layers share one head.
        initial_size_logit: initial width and height of the first head's boxes, as a logit, on top
            of the reference.  Use -2.0 where references are points (published one-stage models).
    """

    def __init__(
        self, *, embed_dim: int = 256, num_layers: int = 6, initial_size_logit: float = 0.0
    ):
        super().__init__(box_head(embed_dim) for _ in range(num_layers))
        nn.init.constant_(self[0].layers[-1].bias[2:], initial_size_logit)


class PredictionHeads(nn.Module):
    """The detector's class and box heads, one of each per decoder layer.

    Supervisions use them too, unless they bring their own.

    Args:
        embed_dim: channels of the query states.
        num_classes: classes, without background.
        num_layers: decoder layers.
        initial_size_logit: see :class:`BoxHeads`.
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
        self.num_classes = num_classes
        self.class_heads = ClassHeads(
            embed_dim=embed_dim, num_classes=num_classes, num_layers=num_layers
        )
        self.box_heads = BoxHeads(
            embed_dim=embed_dim, num_layers=num_layers, initial_size_logit=initial_size_logit
        )

    def forward(
        self,
        states_BNC: Tensor,
        reference_BNr: Tensor,
        layer: int,
        class_heads: ClassHeads | None = None,
        box_heads: BoxHeads | None = None,
    ) -> LayerPredictions:
        """Predictions of one layer from query states relative to references.

        Args:
            states_BNC: query states.
            reference_BNr: boxes (r = 4) or points (r = 2) that the boxes are relative to.
            layer: index of the decoder layer.
            class_heads, box_heads: used in the place of the detector's own.
        """
        class_heads = self.class_heads if class_heads is None else class_heads
        box_heads = self.box_heads if box_heads is None else box_heads
        logits, delta = class_heads(states_BNC, layer), box_heads(states_BNC, layer)
        return LayerPredictions(logits, apply_delta(delta, reference_BNr))


class SharedPredictionHeads(PredictionHeads):
    """One class head and one box head for all decoder layers.

    One-stage Deformable DETR without box refinement has them, and DINO.

    Args:
        embed_dim, num_classes, initial_size_logit: see :class:`PredictionHeads`.
    """

    def __init__(self, *, embed_dim: int = 256, num_classes: int, initial_size_logit: float = 0.0):
        super().__init__(
            embed_dim=embed_dim,
            num_classes=num_classes,
            num_layers=1,
            initial_size_logit=initial_size_logit,
        )
