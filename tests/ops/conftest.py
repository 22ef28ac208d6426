"""Inputs for the operator, and a reference of its own: plain loops over points and corners."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from ms_detr.ops import bags, grids, implementation, reference, unfused

sys.path.insert(0, str(Path(__file__).resolve().parent))  # for the modules beside this one

FORMS = {"pytorch": reference, "bags": bags, "grids": grids}


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


def _fused_loops(value, shapes, reference, offsets, logits):
    """Softmax and locations by their definition, level by level, then the loops above."""
    value, reference, offsets, logits = (t.double() for t in (value, reference, offsets, logits))
    exponentials = (logits - logits.amax(-1, keepdim=True).detach()).exp()
    weights = (exponentials / exponentials.sum(-1, keepdim=True)).view(offsets.shape[:5])
    points, places = offsets.shape[4], []
    for level, (height, width) in enumerate(shapes):
        center = reference[:, :, level, :2][:, :, None, None]
        if reference.shape[-1] == 2:
            step = torch.tensor([1 / width, 1 / height], dtype=torch.float64)
        else:
            step = reference[:, :, level, 2:][:, :, None, None] / (2 * points)
        places.append(center + offsets[:, :, :, level] * step)
    return _loops(value, shapes, torch.stack(places, 3), weights)


def _fused_inputs(r=2, **sizes):
    """Random inputs; some of the points lie outside of their level."""
    x = _inputs(**sizes)
    generator = torch.Generator().manual_seed(1)
    batch, queries, heads, levels, points, _ = x.locations.shape

    def random(*shape):
        return torch.randn(*shape, generator=generator).to(x.locations)

    center = random(batch, queries, levels, 2).sigmoid() * 1.2 - 0.1
    size = random(batch, queries, levels, r - 2).sigmoid()
    return SimpleNamespace(
        value=x.value,
        shapes=x.shapes,
        flat=x.flat,
        reference=torch.cat([center, size], -1),
        offsets=random(batch, queries, heads, levels, points, 2),
        logits=random(batch, queries, heads, levels * points),
        grad=x.grad,
    )


@pytest.fixture
def make_inputs():
    return _inputs


@pytest.fixture
def make_fused_inputs():
    return _fused_inputs


@pytest.fixture
def fused_loops():
    return _fused_loops


@pytest.fixture
def loops():
    return _loops


@pytest.fixture
def needs_compiled():
    if implementation("cpu").name != "compiled":
        pytest.skip(f"needs the compiled extension: {implementation('cpu')}")


@pytest.fixture(params=["compiled", "pytorch", "bags", "grids"])
def forward_backward(request):
    """(forward, backward) of one implementation, with the signatures of the two operators."""
    if request.param in FORMS:
        return FORMS[request.param].forward, FORMS[request.param].backward
    request.getfixturevalue("needs_compiled")
    return torch.ops.ms_detr.ms_deform_attn, torch.ops.ms_detr.ms_deform_attn_backward


@pytest.fixture(params=["compiled", "unfused"])
def fused_forward_backward(request):
    """The same of the fused operator: as dispatched, and put together from the plain one."""
    if request.param == "unfused":
        return unfused.forward, unfused.backward
    request.getfixturevalue("needs_compiled")
    return torch.ops.ms_detr.fused_deform_attn, torch.ops.ms_detr.fused_deform_attn_backward


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    """Path of the compiled emulator, for Hopper (atomic additions of four floats) or Ampere."""
    import emulated

    if emulated.compiler() is None:
        pytest.skip("needs a C++ compiler, to build the emulator")
    built = {}

    def get(arch, *flags):
        key = (arch, *flags)
        if key not in built:
            built[key] = emulated.build(tmp_path_factory.mktemp("emulator"), arch, *flags)
        return built[key]

    return get


@pytest.fixture
def emulator(library):
    import emulated

    return emulated.Emulator(emulated.load(library(900), 900))
