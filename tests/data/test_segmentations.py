"""Polygons and run-length encodings: every form of one mask gives the same raster and box."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as mask_util

from ms_detr.data.segmentations import (
    _decompress,
    box_of,
    has_mask,
    rasterise,
    segmentation_fault,
    slivers,
)

HEIGHT, WIDTH = 40, 60


def compressed(mask: np.ndarray) -> dict:
    """An RLE as it stands in a json."""
    rle = mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(mask.shape), "counts": rle["counts"].decode()}


def uncompressed(mask: np.ndarray) -> dict:
    """An RLE as COCO writes crowds, made without pycocotools: runs down the columns."""
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat.astype(int), [0]])))
    edges = edges[edges < flat.size]
    counts = np.diff(np.concatenate([[0], edges, [flat.size]]))
    return {"size": list(mask.shape), "counts": [int(count) for count in counts]}


@pytest.fixture
def two_parts() -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[5:20, 10:30] = mask[25:38, 40:60] = True
    return mask


FORMS = {
    "polygons": lambda mask: [
        [10, 5, 30, 5, 30, 20, 10, 20],
        [40.0, 25.0, 60.0, 25.0, 60.0, 38.0, 40.0, 38.0],
    ],
    "compressed": compressed,
    "uncompressed": uncompressed,
}


@pytest.mark.parametrize("form", FORMS)
def test_all_forms_of_a_mask_are_one(two_parts: np.ndarray, form: str) -> None:
    segmentation = FORMS[form](two_parts)
    assert segmentation_fault(segmentation, (HEIGHT, WIDTH), 0.0) == ""
    assert has_mask(segmentation) and slivers(segmentation) == 0
    assert np.array_equal(rasterise(segmentation, HEIGHT, WIDTH), two_parts)
    assert box_of(segmentation) == [10.0, 5.0, 50.0, 33.0]


def test_compressed_counts_are_read_as_pycocotools_writes_them() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        height, width = rng.integers(1, 70, 2)
        mask = rng.random((height, width)) < rng.random()
        mask = np.kron(mask, np.ones(rng.integers(1, 9, 2), dtype=bool))
        expected = uncompressed(mask)["counts"]
        assert _decompress(compressed(mask)["counts"]) == expected
        assert segmentation_fault(compressed(mask), mask.shape) == ""


def test_what_lies_beyond_the_image_is_cut() -> None:
    mask = rasterise([[50, -10, 90, -10, 90, 12, 50, 12]], HEIGHT, WIDTH)
    expected = np.zeros((HEIGHT, WIDTH), dtype=bool)
    expected[:12, 50:] = True
    assert np.array_equal(mask, expected)


@pytest.mark.parametrize("nothing", [None, [], "", {}, [[1, 2, 3, 4]]])
def test_no_mask(nothing) -> None:
    assert not has_mask(nothing)
    assert not rasterise(nothing, HEIGHT, WIDTH).any()


def test_an_empty_raster_is_no_mask_and_no_fault() -> None:
    for form in (compressed, uncompressed):
        empty = form(np.zeros((HEIGHT, WIDTH), dtype=bool))
        assert not has_mask(empty) and segmentation_fault(empty, (HEIGHT, WIDTH)) == ""


def test_slivers_do_not_belong_to_a_mask() -> None:
    segmentation = [[10, 5, 30, 5, 30, 20, 10, 20], [0, 0, 59, 39]]
    assert slivers(segmentation) == 1
    assert box_of(segmentation) == [10.0, 5.0, 20.0, 15.0]
    assert rasterise(segmentation, HEIGHT, WIDTH).sum() == 300
