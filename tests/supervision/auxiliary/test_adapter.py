"""The maps of auxiliary heads."""

from __future__ import annotations

import pytest
import torch
from supervision.small_heads import BATCH, CentreHead, build, config, made

from ms_detr.structures import FeaturePyramid
from ms_detr.supervision import SupervisionSet
from ms_detr.supervision.auxiliary import AuxiliaryMaps, CoarserLevel, PyramidOfOneLevel

SIZES = {"embed_dim": 8, "num_groups": 2}


def memory_of(*shapes: tuple[int, int], channels: int = 8) -> FeaturePyramid:
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(2, channels, *shape, generator=generator) for shape in shapes]

    def position(level, valid, shape, dtype):  # noqa: ARG001
        return torch.zeros(2, shape[0] * shape[1], channels)

    return FeaturePyramid.from_maps(maps, torch.zeros(2, 64, 64, dtype=torch.bool), position)


def test_levels_of_the_memory_are_kept_and_one_is_added():
    memory = memory_of((7, 9), (4, 5), (2, 3))
    adapter = CoarserLevel(strides=[8, 16, 32, 64], **SIZES)
    maps = adapter(memory)
    assert [tuple(x.shape[-2:]) for x in maps] == [(7, 9), (4, 5), (2, 3), (1, 2)]
    for level in range(3):
        assert torch.equal(maps[level], memory.map(level))
    down = adapter.down(memory.map(2))
    assert torch.equal(maps[3], down) and adapter.down[0].stride == (2, 2)
    assert adapter.strides == (8, 16, 32, 64) and adapter.memory_strides == (8, 16, 32)


@pytest.mark.parametrize("stride, shapes", [(32, "uumd"), (8, "mddd"), (64, "uuum"), (16, "umdd")])
def test_a_pyramid_grows_both_ways(stride, shapes):
    memory = memory_of((4, 6))
    strides = [8, 16, 32, 64]
    adapter = PyramidOfOneLevel(strides=strides, memory_stride=stride, **SIZES)
    maps = adapter(memory)
    assert torch.equal(maps[shapes.index("m")], memory.map(0))
    for features, level in zip(maps, strides):
        # every map shows the pixels of the memory's: 4 * stride high
        assert features.shape[-2] == max(1, 4 * stride // level)
        assert features.shape[-1] == -(-6 * stride // level)
    assert (len(adapter.up), len(adapter.down)) == (shapes.count("u"), shapes.count("d"))


def test_finer_maps_show_the_same_places():
    """Bilinear interpolation, whose cells lie where the maps say they do."""
    memory = memory_of((4, 6))
    adapter = PyramidOfOneLevel(strides=[16, 32], **SIZES)
    centers = AuxiliaryMaps((memory.map(0),), (32,), ((128, 192),) * 2).centers_S2
    ramp = centers.view(1, 4, 6, 2).permute(0, 3, 1, 2)
    finer = adapter.up[0][0](ramp)
    expected = AuxiliaryMaps((finer,), (16,), ((128, 192),)).centers_S2.view(8, 12, 2)
    # cells of the border have nothing to be interpolated with
    torch.testing.assert_close(finer[0].permute(1, 2, 0)[1:-1, 1:-1], expected[1:-1, 1:-1])


def test_every_parameter_of_an_adapter_learns():
    for adapter in (CoarserLevel(strides=[32, 64], **SIZES), PyramidOfOneLevel(**SIZES)):
        sum(x.square().sum() for x in adapter(memory_of((4, 6)))).backward()
        assert all(p.grad.abs().sum() > 0 for p in adapter.parameters() if p.dim() > 1)


@pytest.mark.parametrize(
    "kind, options, message",
    [
        (CoarserLevel, {"strides": [8, 16, 64]}, r"twice the last of them.*got \[8, 16, 64\]"),
        (CoarserLevel, {"strides": [8]}, r"twice the last of them.*got \[8\]"),
        (CoarserLevel, {"strides": []}, "must name one level or more"),
        (CoarserLevel, {"strides": [8, 16.0]}, "whole number of at least 1, got 16.0"),
        (PyramidOfOneLevel, {"strides": [8, 32]}, r"double .* got \[8, 32\] and 32"),
        (PyramidOfOneLevel, {"memory_stride": 4}, r"one of them.*\[8, 16, 32, 64, 128\] and 4"),
    ],
)
def test_wrong_strides_are_named(kind, options, message):
    with pytest.raises(ValueError, match=message):
        kind(**SIZES | options)


def test_an_adapter_has_the_levels_of_the_neck():
    node = config("deformable_detr_pp")
    node.supervisions.adapter.strides = [8, 16, 32, 64]
    message = (
        r"^model.supervisions.adapter.strides \[8, 16, 32, 64\] .* stride \[8, 16, 32\], but "
        r"those of model.neck have \[8, 16, 32, 64\]"
    )
    with pytest.raises(ValueError, match=message):
        made(node)
    node = config("dab_detr_r50")
    node.supervisions.adapter.memory_stride = 16
    with pytest.raises(ValueError, match=r"levels of stride \[16\], but .* have \[32\]"):
        made(node)


def test_maps_of_a_detector_are_where_their_strides_say():
    model = build("deformable_detr_pp")
    images = model.preprocess(BATCH)
    memory, _ = model.encode(images.tensor, images.image_sizes)
    pyramid = model.supervisions.pyramid(memory, images.image_sizes)
    assert pyramid.shapes == ((8, 10), (4, 5), (2, 3), (1, 2), (1, 1))
    assert pyramid.sizes == ((64, 80), (48, 60)) and pyramid.strides == (8, 16, 32, 64, 128)


def test_sources_and_adapter_need_each_other():
    node = config("deformable_detr_pp")
    adapter = node.supervisions.pop("adapter")
    node.supervisions.first.source.head.strides = [8]
    with pytest.raises(ValueError, match="^model.supervisions.first.source reads .*adapter, e.g."):
        made(node)
    node = config("deformable_detr_pp", ())
    node.supervisions.adapter = adapter
    with pytest.raises(ValueError, match="adapter makes maps that no source reads; delete it: '~"):
        made(node)
    node = config("deformable_detr_pp")
    node.supervisions.adapter = "coarser"
    node.supervisions.first.source.head.strides = [8]
    with pytest.raises(ValueError, match="^model.supervisions.adapter must be of class MultiSc"):
        made(node)
    plain = made(config("deformable_detr_pp", ())).supervisions
    with pytest.raises(ValueError, match="nothing makes maps of the memory; give model.superv"):
        plain.pyramid(memory_of((4, 6)), ((64, 64),) * 2)


def test_an_adapter_is_no_supervision():
    model = build("deformable_detr_pp")
    assert [name for name, _ in model.supervisions.named()] == ["one_to_one", "proposals", "first"]
    again = SupervisionSet(**dict(model.supervisions.items()))
    assert again.adapter is model.supervisions.adapter
    assert isinstance(model.supervisions["first"].source.head, CentreHead)
