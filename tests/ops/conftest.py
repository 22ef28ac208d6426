"""Inputs for the operator, and a reference of its own: plain loops over points and corners."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from ms_detr.ops import implementation, reference


def _loops(value, shapes, locations, weights):
    """The definition, corner by corner, in float64; differentiable by autograd."""
    value, locations, weights = value.double(), locations.double(), weights.double()
    batch, _, heads, channels = value.shape
    queries, points = locations.shape[1], locations.shape[4]
    rows = []
    for b in range(batch):
        for q in range(queries):
            for h in range(heads):
                total = value.new_zeros(channels)
                start = 0
                for level, (height, width) in enumerate(shapes):
                    for z in range(points):
                        x, y = locations[b, q, h, level, z]
                        px, py = x * width - 0.5, y * height - 0.5
                        left, top = math.floor(px.item()), math.floor(py.item())
                        for col in (left, left + 1):
                            for row in (top, top + 1):
                                if 0 <= col < width and 0 <= row < height:
                                    share = (1 - (px - col).abs()) * (1 - (py - row).abs())
                                    token = value[b, start + row * width + col, h]
                                    total = total + weights[b, q, h, level, z] * share * token
                    start += height * width
                rows.append(total)
    if not rows:
        return value.new_zeros(batch, queries, heads * channels)
    return torch.stack(rows).view(batch, queries, heads * channels)


def _inputs(
    batch=2, queries=3, heads=2, channels=5, points=2, shapes=((4, 3), (1, 1)),
    dtype=torch.float32, device="cpu", seed=0,
):  # fmt: skip
    """Random inputs; about half of the points lie partly or wholly outside of their level."""
    generator = torch.Generator().manual_seed(seed)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    levels = len(shapes)
    tokens = sum(height * width for height, width in shapes)
    value = torch.randn(batch, tokens, heads, channels, generator=generator)
    locations = torch.rand(batch, queries, heads, levels, points, 2, generator=generator)
    weights = torch.rand(batch, queries, heads, levels, points, generator=generator)
    grad = torch.randn(batch, queries, heads * channels, generator=generator)
    return SimpleNamespace(
        value=value.to(device, dtype),
        shapes=shapes,
        flat=[side for pair in shapes for side in pair],
        locations=(locations * 1.8 - 0.4).to(device, wide),
        weights=weights.to(device, wide),
        grad=grad.to(device, dtype),
    )


@pytest.fixture
def make_inputs():
    return _inputs


@pytest.fixture
def loops():
    return _loops


@pytest.fixture
def needs_compiled():
    if implementation("cpu").name != "compiled":
        pytest.skip(f"needs the compiled extension: {implementation('cpu')}")


@pytest.fixture(params=["compiled", "pytorch"])
def forward_backward(request):
    """(forward, backward) of one implementation, with the signatures of the two operators."""
    if request.param == "pytorch":
        return reference.forward, reference.backward
    request.getfixturevalue("needs_compiled")
    return torch.ops.ms_detr.ms_deform_attn, torch.ops.ms_detr.ms_deform_attn_backward
