"""Operators: multi-scale deformable attention, compiled, or in PyTorch where it was not built."""

from ms_detr.ops.extension import Implementation, implementation
from ms_detr.ops.fused_deform_attn import fused_deform_attn
from ms_detr.ops.ms_deform_attn import ms_deform_attn

__all__ = ["Implementation", "fused_deform_attn", "implementation", "ms_deform_attn"]
