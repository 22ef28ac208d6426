"""Hostile arguments of the operators: refused by name, or computed as the definition says.

What `tests/ops` refuses already (ranks, heads, levels, dtypes one by one) is not repeated.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hostile_cases import Case, table

from ms_detr.ops import fused_deform_attn, ms_deform_attn

SHAPES = ((4, 3), (2, 2))
TOKENS = 16


def inputs(queries: int = 3, batch: int = 2) -> SimpleNamespace:
    """B images, 16 tokens, 2 heads of 4 channels, 2 levels, 2 points."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator)

    return SimpleNamespace(
        value=draw(batch, TOKENS, 2, 4),
        shapes=SHAPES,
        locations=draw(batch, queries, 2, 2, 2, 2),
        weights=draw(batch, queries, 2, 2, 2),
        reference=draw(batch, queries, 2, 4),
        offsets=draw(batch, queries, 2, 2, 2, 2),
        logits=draw(batch, queries, 2, 4),
    )


def plain(x: SimpleNamespace) -> torch.Tensor:
    return ms_deform_attn(x.value, x.shapes, x.locations, x.weights)


def fused(x: SimpleNamespace) -> torch.Tensor:
    return fused_deform_attn(x.value, x.shapes, x.reference, x.offsets, x.logits)


def sets(**changes):
    def make(x: SimpleNamespace) -> None:
        for name, change in changes.items():
            setattr(x, name, change(getattr(x, name)) if callable(change) else change)

    return make


REFUSED = [
    Case("levels of 2**64 tokens", sets(shapes=((2**32, 2**32), (2, 2))),
         ("4294967296", "(2, 16, 2, 4)")),
    Case("sides whose product is 0 in 64 bits", sets(shapes=((2**62, 4),)),
         ("tokens", "(2, 16, 2, 4)")),
    Case("sides beyond 64 bits", sets(shapes=((2**70, 2**70), (2, 2))),
         ("tokens", "(2, 16, 2, 4)")),
    Case("negative sides that add up", sets(shapes=((-4, -3), (2, 2))), ("at least 1", "(-4, -3)")),
    Case("levels that do not add up", sets(shapes=((4, 3), (2, 3))),
         ("18 tokens", "(2, 16, 2, 4)")),
    Case("no levels", sets(shapes=()), ("shapes is empty", "at least one level")),
    Case("shapes that are text", sets(shapes="ab"), ("(height, width)", "ab")),
    Case("shapes that are nothing", sets(shapes=None), ("shapes", "(height, width)", "None")),
    Case("shapes that are a number", sets(shapes=16), ("shapes", "(height, width)", "16")),
    Case("a shape of nothing", sets(shapes=((4, None), (2, 2))), ("(height, width)", "None")),
    Case("a shape that is nothing", sets(shapes=(None, (2, 2))), ("(height, width)", "None")),
    Case("no tokens", sets(value=lambda v: v[:, :0]), ("value must be", "(2, 0, 2, 4)")),
    Case("no heads", sets(value=lambda v: v[:, :, :0]), ("value must be", "(2, 16, 0, 4)")),
    Case("complex values", sets(value=lambda v: v.to(torch.complex64)),
         ("value must be", "complex64")),
    Case("truth values", sets(value=lambda v: v > 0), ("value must be float32", "bool")),
    Case("values without data", sets(value=lambda v: v.to("meta")), ("one device", "on meta")),
    Case("an array", sets(value=lambda v: v.numpy()), ("value must be a tensor", "ndarray")),
    Case("no value", sets(value=None), ("value must be a tensor", "NoneType")),
    Case("a sparse value", sets(value=lambda v: v.to_sparse()),
         ("value must be a dense tensor", "sparse")),
]  # fmt: skip


@pytest.mark.parametrize("operator", [plain, fused])
@table(REFUSED)
def test_refused(case: Case, operator) -> None:
    x = inputs()
    case.make(x)
    with pytest.raises(ValueError) as caught:
        operator(x)
    case.require(str(caught.value))
    name = "ms_deform_attn" if operator is plain else "fused_deform_attn"
    assert str(caught.value).startswith(f"{name}: ")


@pytest.mark.parametrize("name", ["locations", "weights"])
@pytest.mark.parametrize("wrong", [None, [0.5], "sparse"])
def test_other_arguments_that_are_no_tensors(name: str, wrong) -> None:
    x = inputs()
    setattr(x, name, getattr(x, name).to_sparse() if wrong == "sparse" else wrong)
    with pytest.raises(ValueError, match=f"ms_deform_attn: {name} must be a (dense )?tensor"):
        plain(x)


@pytest.mark.parametrize("operator", [plain, fused])
@pytest.mark.parametrize(("queries", "batch"), [(0, 2), (3, 0), (0, 0)])
def test_nothing_to_do(operator, queries: int, batch: int) -> None:
    x = inputs(queries, batch)
    x.value.requires_grad_()
    out = operator(x)
    out.sum().backward()
    assert out.shape == (batch, queries, 8) and not x.value.grad.any()


BAD = [float("nan"), float("inf"), -float("inf")]


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_location_spoils_its_query_and_head_and_no_other(bad: float) -> None:
    x = inputs()
    whole = plain(x)
    x.locations[1, 2, 0, 1, 0, 1] = bad
    x.value.requires_grad_()
    out = plain(x)
    out[~out.isnan()].sum().backward()
    spoilt = torch.zeros_like(whole, dtype=torch.bool)
    spoilt[1, 2, :4] = True
    assert torch.equal(out.isnan(), spoilt)
    assert torch.equal(out[~spoilt], whole[~spoilt])
    assert x.value.grad.isfinite().all()


@pytest.mark.parametrize("far", [3e9, -3e9, 1e30, -1e30, 3.4e38])
def test_points_far_away_read_zeros(far: float) -> None:
    x = inputs()
    x.locations.fill_(far).requires_grad_()
    x.value.requires_grad_()
    out = plain(x)
    out.sum().backward()
    assert not out.any() and not x.value.grad.any() and not x.locations.grad.any()


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_value_reaches_only_who_reads_it(bad: float) -> None:
    x = inputs()
    x.value[0, 0, 0, 0] = bad
    x.locations[0, :, 0, 0] = 0.9  # far from the first token of the first level
    x.locations[0, 0, 0, 0, 0] = 0.1
    out = plain(x)
    assert not out[0, 0, 0].isfinite()
    rest = out.flatten()[1:]
    assert rest.isfinite().all()


def test_memory_in_any_order_gives_the_same() -> None:
    x = inputs()
    whole = plain(x)
    for name in ("value", "locations", "weights"):
        other = inputs()
        tensor = getattr(other, name)
        strided = torch.empty(*tensor.shape, 2)[..., 0].copy_(tensor)
        turned = tensor.transpose(0, 1).contiguous().transpose(0, 1)
        for changed in (strided, turned):
            assert not changed.is_contiguous()
            setattr(other, name, changed)
            assert torch.equal(plain(other), whole)
    x.value = x.value[:, :1].expand(2, TOKENS, 2, 4)
    assert torch.equal(plain(x), plain(SimpleNamespace(**{**vars(x), "value": x.value.clone()})))


@pytest.mark.parametrize("wanted", range(8))
def test_each_combination_of_gradients_is_that_of_all(wanted: int) -> None:
    names = ("value", "locations", "weights")
    everything = inputs()
    for name in names:
        getattr(everything, name).requires_grad_()
    plain(everything).sin().sum().backward()
    x = inputs()
    chosen = [name for bit, name in enumerate(names) if wanted >> bit & 1]
    for name in chosen:
        getattr(x, name).requires_grad_()
    out = plain(x)
    assert out.requires_grad == bool(chosen)
    if chosen:
        out.sin().sum().backward()
    for name in names:
        gradient = getattr(x, name).grad
        if name in chosen:
            assert torch.equal(gradient, getattr(everything, name).grad)
        else:
            assert gradient is None


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_refusals_leave_no_memory_behind() -> None:
    def resident() -> float:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def refuse(times: int) -> None:
        for _ in range(times):
            x = inputs()
            x.value = torch.zeros(2, 40_000, 2, 4)  # 2.5 MB
            x.value.requires_grad_()
            with pytest.raises(ValueError):
                plain(x)

    refuse(20)
    before = resident()
    refuse(200)  # 500 MB if each were kept
    assert resident() - before < 50
