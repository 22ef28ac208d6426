"""Initialisation that encoder and decoder share."""

from torch import nn

from .deformable_attention import MultiScaleDeformableAttention


def reset_transformer_parameters(module: nn.Module) -> None:
    """Published initialisation: Xavier for every matrix, deformable attention by its own rule."""
    for parameter in module.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
    for part in module.modules():
        if isinstance(part, MultiScaleDeformableAttention):
            part.reset_parameters()
