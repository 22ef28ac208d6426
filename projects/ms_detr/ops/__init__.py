"""Operators of ms_detr: multi-scale deformable attention, compiled where it was built, in PyTorch elsewhere."""

from ms_detr.ops.extension import Implementation, implementation
from ms_detr.ops.ms_deform_attn import ms_deform_attn

__all__ = ["Implementation", "implementation", "ms_deform_attn"]
