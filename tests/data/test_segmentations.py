"""Polygons and run-length encodings: every form of one mask gives the same raster and box."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as mask_util

from ms_detr.data.segmentations import (
    _decompress,
    absence,
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
    assert segmentation_fault(segmentation, (HEIGHT, WIDTH), 0.0) == ("", "")
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
        assert segmentation_fault(compressed(mask), mask.shape) == ("", "")


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
        assert not has_mask(empty) and segmentation_fault(empty, (HEIGHT, WIDTH)) == ("", "")


def test_slivers_do_not_belong_to_a_mask() -> None:
    segmentation = [[10, 5, 30, 5, 30, 20, 10, 20], [0, 0, 59, 39]]
    assert slivers(segmentation) == 1
    assert box_of(segmentation) == [10.0, 5.0, 20.0, 15.0]
    assert rasterise(segmentation, HEIGHT, WIDTH).sum() == 300


WITHOUT_AREA = {
    "on a row": [20, 20, 50, 20, 35, 20],
    "on a column": [20, 20, 20, 30, 20, 25],
    "on a slope": [0.1, 0.1, 10.3, 5.2, 20.5, 10.3],
    "one point": [7.5, 7.5] * 4,
    "there and back": [0, 0, 10, 0, 10, 10, 10, 0],
}
WITH_AREA = {
    "thin": [20, 20, 50, 20, 50, 20.01],
    "bow tie": [0, 0, 10, 10, 10, 0, 0, 10],
    "far away": [1e6, 1e6, 1e6 + 4, 1e6, 1e6 + 4, 1e6 + 4],
    "clockwise": [0, 0, 0, 10, 10, 10, 10, 0],
}


@pytest.mark.parametrize("name", WITHOUT_AREA)
def test_polygons_without_an_area_are_no_mask(name: str) -> None:
    flat = [WITHOUT_AREA[name]]
    assert segmentation_fault(flat, (HEIGHT, WIDTH)) == ("", "")
    assert not has_mask(flat) and not has_mask([*flat, *flat, [1, 2]])
    assert not rasterise(flat, HEIGHT, WIDTH).any() and "no area" in absence(flat)
    assert has_mask([*flat, WITH_AREA["thin"]])


@pytest.mark.parametrize("name", WITH_AREA)
def test_polygons_with_an_area_are_a_mask(name: str) -> None:
    assert has_mask([WITH_AREA[name]]) and has_mask([np.array(WITH_AREA[name])])


@pytest.mark.parametrize(
    ("segmentation", "what", "mend"),
    [
        ([[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5]], "polygon 2 has 5 numbers", "[[x0, y0, x1, y1"),
        ([[1]], "polygon 1 has 1 number,", "[[x0, y0, x1, y1"),
        ([1, 2, 3, 4, 5, 6], "flat list of 6 numbers", "wrap it in [ ]"),
        ([[1, None, 3, 4, 5, 6]], "polygon 1 holds None, not a number", "[[x0, y0"),
        ([[1, True, 3, 4, 5, 6]], "polygon 1 holds True, not a number", "[[x0, y0"),
        ([[[1, 2], [3, 4], [5, 6]]], "polygon 1 holds [1, 2], not a number", "[[x0, y0"),
        ([[1, [2], 3, 4, 5, 6]], "polygon 1 holds [2], not a number", "[[x0, y0"),
        ([[1, 10**400, 3, 4, 5, 6]], "polygon 1 holds a huge integer", "[[x0, y0"),
        ([[1, float("inf"), 3, 4, 5, 6]], "holds inf, not a finite number", "[[x0, y0"),
        ([["x" * 99]], f"holds '{'x' * 36}..., not", "[[x0, y0"),
        ([1, "2"], "polygon 1 is 1, not a list", "[[x0, y0"),
        ([[0, 0, 70, 0, 70, 9]], "reaches 10 pixels beyond the image of 60 x 40", "clip it"),
        ([[], [1, 2]], "no polygon of 3 points", "at least 3 points"),
    ],
)
def test_malformed_polygons_are_described(segmentation, what: str, mend: str) -> None:
    found = segmentation_fault(segmentation, (HEIGHT, WIDTH), 1.0)
    assert what in found[0] and mend in found[1]
