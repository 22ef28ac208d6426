"""Operators: multi-scale deformable attention and dropout, compiled, or in PyTorch where they were
not built."""

from ms_detr.ops.dropout import dropout, dropout_, is_compiled
from ms_detr.ops.extension import Implementation, implementation
from ms_detr.ops.fused_deform_attn import fused_deform_attn
from ms_detr.ops.ms_deform_attn import ms_deform_attn

__all__ = [
    "Implementation",
    "dropout",
    "dropout_",
    "fused_deform_attn",
    "implementation",
    "is_compiled",
    "ms_deform_attn",
]
