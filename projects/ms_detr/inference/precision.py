"""Which part of a detector works in bfloat16."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..heads import PredictionHeads
from ..layers import QuerySelfAttention
from ..queries import ConditionalQueries, EncoderProposals, LearnedQueries

# Under autocast products of matrices are of half precision, so their weights may be it before.
_PRODUCTS = (nn.Linear, nn.Conv2d, nn.MultiheadAttention, QuerySelfAttention)

# Modules that make boxes, points and scores outside of the heads.
_PLACES: dict[type[nn.Module], tuple[str, ...]] = {
    EncoderProposals: ("class_head", "box_head"),
    LearnedQueries: ("reference_points",),
    ConditionalQueries: ("point_head",),
}


class InFloat32(nn.Module):
    """Another module, kept out of autocast.

    Args:
        module: with parameters in float32.
    """

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return self.module(x.float())


def keep_places_in_float32(root: nn.Module) -> None:
    """Scores, points and shifts of boxes are computed in float32.

    Rounded to 8 bits, scores would tie, and boxes lie on a grid.
    """
    for module in list(root.modules()):
        if isinstance(module, PredictionHeads):
            for heads in (module.class_heads, module.box_heads):
                for index, head in enumerate(heads):
                    heads[index] = InFloat32(head)
        for kind, names in _PLACES.items():
            if isinstance(module, kind):
                for name in names:
                    setattr(module, name, InFloat32(getattr(module, name)))


def weights_to_bfloat16(root: nn.Module) -> None:
    """Store the weights of products in bfloat16, but for modules that are :class:`InFloat32`.

    Embeddings, norms and everything that is a place keep float32.
    """
    kept = {
        inner for module in root.modules() if isinstance(module, InFloat32)
        for inner in module.modules()
    }  # fmt: skip
    for module in root.modules():
        if isinstance(module, _PRODUCTS) and module not in kept:
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.to(torch.bfloat16)
