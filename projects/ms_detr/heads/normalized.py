"""Heads that read normalised states."""

from torch import Tensor, nn

from ..structures import LayerPredictions
from .prediction import BoxHeads, ClassHeads, SharedPredictionHeads


class NormalizedPredictionHeads(SharedPredictionHeads):
    """Shared heads behind one more LayerNorm, which all layers share too.

    Conditional DETR, DAB-DETR and DINO have it: only predictions are made of normalised states,
    while the next layer and the refinement of references go on with the states themselves.

    Args:
        embed_dim, num_classes, initial_size_logit: see :class:`SharedPredictionHeads`.
    """

    def __init__(self, *, embed_dim: int = 256, num_classes: int, initial_size_logit: float = 0.0):
        super().__init__(
            embed_dim=embed_dim, num_classes=num_classes, initial_size_logit=initial_size_logit
        )
        self.norm = nn.LayerNorm(embed_dim)

    def forward(
        self,
        states_BNC: Tensor,
        reference_BNr: Tensor,
        layer: int,
        class_heads: ClassHeads | None = None,
        box_heads: BoxHeads | None = None,
    ) -> LayerPredictions:
        return super().forward(self.norm(states_BNC), reference_BNr, layer, class_heads, box_heads)
