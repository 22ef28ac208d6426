"""Hostile jsons: each is refused with the culprit and the mend, or read as it should be."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from hostile_cases import Case, HostileSet, table

from ms_detr.data import (
    BoxMapper,
    DatasetError,
    check_coco_json,
    checked_dataset_dicts,
    register_coco_json,
)
from ms_detr.data.segmentations import box_of, rasterise


def whole(share: float):
    """The json cut at a share of its length."""

    def make(data: HostileSet) -> None:
        text = json.dumps(data.content)
        data.write(text[: int(len(text) * share)])

    return make


def encoded(encoding: str):
    def make(data: HostileSet) -> None:
        data.content["categories"][0]["name"] = "hündin"
        data.write(json.dumps(data.content, ensure_ascii=False).encode(encoding))

    return make


def raw(text: str):
    return lambda data: data.write(text)


def first(**changes):
    """Changes the first annotation."""
    return lambda data: data.annotations[0].update(changes)


def image(**changes):
    """Changes the first image."""
    return lambda data: data.images[0].update(changes)


def swapped(data: HostileSet) -> None:
    content = data.content
    content["images"], content["annotations"] = content["annotations"], content["images"]


def twice(key: str):
    return lambda data: data.content[key].append(dict(data.content[key][0]))


def pipe(data: HostileSet) -> None:
    os.mkfifo(data.json_file)


def circle(data: HostileSet) -> None:
    data.json_file.symlink_to(data.json_file.name)


MASKS = {"maskless": "error"}
EVALUATION = {"evaluation": True}
RLE = {"size": [40, 60], "counts": [0, 2400]}

REFUSED = [
    Case("no bytes", whole(0.0), ("instances.json", "the file is empty", "export or copy")),
    Case("one byte", whole(0.005), ("instances.json", "not a complete json", "mend: export")),
    Case("cut in the middle", whole(0.5), ("not a complete json", "ends too early", "mend")),
    Case("without its last byte", whole(0.999), ("not a complete json", "ends too early")),
    Case("UTF-8 with a mark", encoded("utf-8-sig"), ("byte order mark", "save it as UTF-8")),
    Case("UTF-16", encoded("utf-16"), ("the file is UTF-16", "save it as UTF-8")),
    Case("UTF-16 without a mark", encoded("utf-16-le"), ("UTF-16", "save it as UTF-8")),
    Case("latin-1", encoded("latin-1"), ("it is not UTF-8", "at byte", "save it as UTF-8")),
    Case("nested 100,000 deep", raw("[" * 100_000), ("nested too deeply", "mend")),
    Case("nested inside", raw('{"images": ' + '{"a":' * 100_000), ("nested too deeply",)),
    Case("a list", raw("[]"), ("the json is a list", "not an object", "mend")),
    Case("a number", raw("7"), ("the json is a int", "mend")),
    Case("an empty object", raw("{}"), ('the key "images" is missing', '"annotations"', "mend")),
    Case("a list named twice", raw('{"images": [1], "images": []}'), ("'images' twice", "merge")),
    Case(
        "a number of 5,000 digits",
        raw('{"images": [' + "9" * 5000 + "]}"),
        ("instances.json", "cannot be read", "digits"),
    ),
    Case("a pipe", pipe, ("instances.json", "a pipe", "give the json")),
    Case("a link to itself", circle, ("instances.json", "leads nowhere", "give the json")),
    Case("images and annotations swapped", swapped, ("image 1", 'lacks "file_name"', "annotation")),
    Case("no lists", raw('{"images":1,"annotations":{},"categories":""}'), ('"images" is a int',)),
    Case("NaN in a box", first(bbox=[1, math.nan, 2, 3]), ("annotation 1", "nan", "not finite")),
    Case("infinity in a box", first(bbox=[1, 1, math.inf, 3]), ("annotation 1", "not finite")),
    Case("minus infinity", first(bbox=[-math.inf, 1, 2, 3]), ("annotation 1", "not finite")),
    Case("a box 1e300 wide", first(bbox=[1, 1, 1e300, 3]), ("1e+300", "beyond the image", "clip")),
    Case("a box of 10**400", first(bbox=[1, 1, 10**400, 3]), ("annotation 1", "not four numbers")),
    Case("a negative box", first(bbox=[9, 9, -2, 3]), ("negative width", "two corners")),
    Case("a box of no width", first(bbox=[9, 9, 0, 3]), ("zero width", "degenerate=skip")),
    Case("a box far outside", first(bbox=[900, 9, 5, 3]),
         ("(image 10, a.png)", "beyond the image")),
    Case("a box of texts", first(bbox=["1", "2", "3", "4"]), ("'1'", "not four numbers", "write")),
    Case("a box of objects", first(bbox=[{}, [], None, True]),
         ("annotation 1", "not four numbers")),
    Case("an id of text", first(id="1"), ("annotations[0]", "'1' is not an integer", "number")),
    Case("a fractional id", first(id=1.0), ("annotations[0]", "1.0 is not an integer")),
    Case("an id that is true", first(id=True), ("annotations[0]", "True is not an integer")),
    Case("an id that is a list", first(id=[1]), ("annotations[0]", "[1] is not an integer")),
    Case("an id of 2**80", first(id=2**80), ("annotations[0]", "81 bits", "number the entries")),
    Case("an id of -10**300", first(id=-(10**300)),
         ("annotations[0]", "bits", "number the entries")),
    Case("image ids of text", image(id="10"), ("images[0]", "'10' is not an integer")),
    Case("an image id of text", first(image_id="10"),
         ("image_id '10' is not in", "correct the id")),
    Case("an image id in a list", first(image_id=[10]), ("image_id [10] is not in",)),
    Case("an unknown image", first(image_id=-10), ("image_id -10 is not in the list", "mend")),
    Case("an unknown class", first(category_id=0), ("category_id 0 is not in", "use one of 3, 8")),
    Case("a class of text", first(category_id="3"), ("category_id '3' is not in",)),
    Case("an annotation twice", twice("annotations"), ("annotation 1", "used twice", "of its own")),
    Case("an image twice", twice("images"), ("image 10", "used twice", "give every entry")),
    Case("a class twice", twice("categories"), ("category 8", "used twice")),
    Case(
        "a name twice",
        lambda d: d.content["categories"].append({"id": -1, "name": "dog"}),
        ('"dog" belongs to category 8', "rename"),
    ),
    Case("a width of text", image(width="60"), ("image 10 (a.png)", "'60' and 40", "in pixels")),
    Case("a negative height", image(height=-40), ("image 10 (a.png)", "60 and -40", "in pixels")),
    Case("a width of 1e9", image(width=10**9), ("60 x 40", "1000000000 x 40", "correct width")),
    Case("sides swapped", image(width=40, height=60), ("60 x 40", "json says 40 x 60", "correct")),
    Case("a file name of numbers", image(file_name=5), ("image 10", "file_name is 5", "write")),
    Case("a file name of 5,000", image(file_name="x" * 5000),
         ("image 10", "does not exist", "mend")),
    Case("a zero byte in a name", image(file_name="a\0.png"), ("a\\x00.png", "does not exist")),
    Case("half a character", image(file_name="\ud800.png"), ("\\ud800.png", "does not exist")),
    Case("a line break", image(file_name="no\nsuch.png"), ("no\\nsuch.png", "does not exist")),
    Case("a terminal's escape", image(file_name="\x1b[2J.png"), ("\\x1b[2J.png", "image 10")),
    Case("polygon of 2 points", first(segmentation=[[1, 1, 9, 9]]), ("annotation 1", "3 points")),
    Case("odd coordinates", first(segmentation=[[1, 1, 9, 9, 5, 1, 4]]), ("7 numbers", "x, y")),
    Case("NaN in a polygon", first(segmentation=[[1, 1, math.nan, 9, 5, 1]]), ("holds nan",)),
    Case("polygon of texts", first(segmentation=[["1", 1, 9, 9, 5, 1]]), ("holds '1'", "mend")),
    Case("polygon outside", first(segmentation=[[1, 1, 99, 9, 5, 1]]),
         ("reaches 39 pixels", "clip"), MASKS),
    Case("flat polygon", first(segmentation=[[1, 1, 5, 5, 9, 9]]), ("no mask", "no area"), MASKS),
    Case("RLE of wrong length", first(segmentation=RLE | {"counts": [9]}), ("sum to 9", "2400")),
    Case("RLE of wrong size", first(segmentation=RLE | {"size": [60, 40]}),
         ("[60, 40]", "[40, 60]")),
    Case("RLE that is cut", first(segmentation=RLE | {"counts": "PP"}), ("annotation 1", "RLE")),
    Case("RLE of garbage", first(segmentation=RLE | {"counts": "\x7f\xff"}), ("not compressed",)),
    Case("RLE of huge runs", first(segmentation=RLE | {"counts": [2**70, -1]}), ("whole numbers",)),
    Case("RLE of huge size", first(segmentation={"size": [2**40] * 2, "counts": [2**80]}),
         ("RLE",)),
    Case("area of text", first(area="200"), ("annotation 1", "'200'", "square pixels"), EVALUATION),
    Case("no area", lambda d: d.annotations[0].pop("area"), ('lacks "area"', "mend"), EVALUATION),
]  # fmt: skip


@table(REFUSED)
def test_refused(case: Case, tmp_path: Path) -> None:
    data = HostileSet(tmp_path)
    case.make(data)
    if not os.path.lexists(data.json_file):
        data.write()
    with pytest.raises(DatasetError) as caught:
        check_coco_json(data.json_file, data.root, **case.options)
    case.require(str(caught.value))
    assert "mend: " in str(caught.value)


def test_the_untouched_set_is_sound(tmp_path: Path) -> None:
    """Without this, every row above could fail for another reason than its own."""
    data = HostileSet(tmp_path)
    data.write()
    summary = check_coco_json(data.json_file, data.root, maskless="error", evaluation=True)
    assert (summary.num_images, summary.num_annotations, summary.messages) == (2, 2, ())


@pytest.fixture
def load(tmp_path: Path):
    """Registers a set, checks and loads it, and forgets it after the test."""

    def run(data: HostileSet, **options) -> list[dict]:
        data.write()
        register_coco_json("hostile", data.json_file, data.root)
        return checked_dataset_dicts("hostile", **options)

    yield run
    DatasetCatalog.pop("hostile", None)
    MetadataCatalog.pop("hostile", None)


def test_class_ids_with_gaps_zero_and_below(tmp_path: Path, load) -> None:
    data = HostileSet(tmp_path)
    data.content["categories"] = [{"id": i, "name": f"c{i}"} for i in (70_000, 0, -5)]
    data.annotations[0]["category_id"], data.annotations[1]["category_id"] = -5, 70_000
    records = load(data)
    assert [r["annotations"][0]["category_id"] for r in records] == [0, 2]
    assert MetadataCatalog.get("hostile").thing_classes == ["c-5", "c0", "c70000"]


@pytest.mark.parametrize(
    "name", ["été 🐕.png", "with space.png", "new\nline.png", "x" * 251 + ".png"]
)
def test_strange_names_that_exist_are_read(tmp_path: Path, load, name: str) -> None:
    data = HostileSet(tmp_path)
    (tmp_path / "a.png").rename(tmp_path / name)
    data.images[0]["file_name"] = name
    record = load(data)[0]
    mapped = BoxMapper(is_train=True, augmentations=[], image_format="RGB")(record)
    assert mapped["image"].shape == (3, 40, 60)
    assert mapped["instances"].gt_boxes.tensor.tolist() == [[5, 5, 25, 15]]


@pytest.mark.parametrize("absolute", [False, True])
def test_files_outside_the_folder_are_used_and_named(tmp_path: Path, absolute: bool) -> None:
    root = tmp_path / "set"
    root.mkdir()
    data = HostileSet(root)
    (root / "a.png").rename(tmp_path / "a.png")
    data.images[0]["file_name"] = str(tmp_path / "a.png") if absolute else "../a.png"
    data.write()
    summary = check_coco_json(data.json_file, root)
    (message,) = summary.messages
    assert "1 files lie outside the image folder" in message and "image ids 10" in message
    data.images[0]["file_name"] = "../set/b.png"
    data.images[0].update(width=32, height=32)
    data.write()
    assert check_coco_json(data.json_file, root).messages == ()


@pytest.mark.parametrize("crowds", [False, True])
def test_sets_without_objects_and_of_crowds_only(
    tmp_path: Path, load, crowds: bool, caplog
) -> None:
    data = HostileSet(tmp_path)
    for entry in data.annotations:
        entry["iscrowd"] = 1
    if not crowds:
        data.annotations.clear()
    mapper = BoxMapper(is_train=True, augmentations=[], image_format="RGB")
    mapped = [mapper(record) for record in load(data)]
    assert [len(item["instances"]) for item in mapped] == [0, 0]
    told = "is an object (2 are crowds): nothing" if crowds else "no annotation is an object: no"
    assert told in caplog.text


def test_a_self_crossing_polygon_is_the_mask_that_it_draws(tmp_path: Path) -> None:
    data = HostileSet(tmp_path)
    bow_tie = [[10.0, 10.0, 30.0, 30.0, 30.0, 10.0, 10.0, 30.0]]
    data.annotations[0].update(segmentation=bow_tie, bbox=[10, 10, 20, 20])
    data.write()
    check_coco_json(data.json_file, data.root, maskless="error")
    mask = rasterise(bow_tie, 40, 60)
    assert box_of(bow_tie) == [10, 10, 20, 20]
    # two triangles of half of a half of 400 pixels
    assert abs(int(mask.sum()) - 200) < 25 and mask[20, 12] and not mask[12, 20]
    assert not np.any(mask[:, 31:])
