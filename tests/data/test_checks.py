"""Every defect of a COCO json gets a message that names the file, the entry and the mend."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
from PIL import Image

from ms_detr.data import DatasetError, check_coco_json, check_dataset, register_coco_json


def test_a_sound_set_is_counted(small) -> None:
    summary = check_coco_json(small.json_file, small.root, evaluation=True)
    assert summary.class_names == ("cat", "dog")  # by ascending id, not by place in the file
    assert (summary.num_images, summary.num_images_without_objects) == (3, 1)
    assert (summary.num_annotations, summary.num_crowd) == (3, 1)
    assert "3 images (1 without objects), 3 annotations (1 crowd), 2 classes" in str(summary)


def test_a_set_without_any_object_is_fine(small) -> None:
    small.content["annotations"] = []
    small.save()
    assert check_coco_json(small.json_file, small.root).num_images_without_objects == 3


# each: what to do to the json, and what the message must name
DEFECTS = {
    "no images key": (lambda c: c.pop("images"), ['key "images" is missing']),
    "no annotations key": (lambda c: c.pop("annotations"), ['key "annotations" is missing']),
    "no categories key": (lambda c: c.pop("categories"), ['key "categories" is missing']),
    "images not a list": (lambda c: c.update(images={}), ['"images" is a dict']),
    "no images": (lambda c: c.update(images=[], annotations=[]), ['list "images" is empty']),
    "no categories": (
        lambda c: c.update(categories=[], annotations=[]),
        ['list "categories" is empty'],
    ),
    "annotation not an object": (
        lambda c: c["annotations"].append(5),
        ["annotations[3]", "is a int, not an object"],
    ),
    "annotation lacks bbox and mask": (
        lambda c: c["annotations"][2].pop("bbox"),
        ["annotation 3 (image 11, b.png)", 'lacks "bbox", and has no mask'],
    ),
    "mask without bbox beyond the image": (
        lambda c: (
            c["annotations"][0].update(segmentation=[[5, 5, 65, 5, 9, 9]])
            or c["annotations"][0].pop("bbox")
        ),
        ["annotation 1", "the box of the mask [5.0, 5.0, 60.0, 4.0] reaches 5 pixels beyond"],
    ),
    "image lacks width": (lambda c: c["images"][1].pop("width"), ["image 11", 'lacks "width"']),
    "category lacks name": (
        lambda c: c["categories"][0].pop("name"),
        ["category 8", 'lacks "name"'],
    ),
    "image id twice": (
        lambda c: c["images"].append(dict(c["images"][0])),
        ["image 10", "used twice"],
    ),
    "annotation id twice": (
        lambda c: c["annotations"][1].update(id=1),
        ["annotation 1", "used twice"],
    ),
    "category id twice": (
        lambda c: c["categories"].append({"id": 8, "name": "bird"}),
        ["category 8", "used twice"],
    ),
    "category name twice": (
        lambda c: c["categories"][0].update(name="cat"),
        ["category 3", '"cat" belongs to category 8'],
    ),
    "id is text": (lambda c: c["annotations"][0].update(id="one"), ["'one' is not an integer"]),
    "size is zero": (lambda c: c["images"][2].update(width=0), ["image 12", "empty.jpg", "0"]),
    "file name is no text": (
        lambda c: c["images"][2].update(file_name=None),
        ["image 12", "file_name is None"],
    ),
    "unknown category": (
        lambda c: c["annotations"][0].update(category_id=4),
        ["annotation 1", "image 10, a.jpg", "category_id 4", "use one of 3, 8"],
    ),
    "unknown image": (
        lambda c: c["annotations"][2].update(image_id=99),
        ["annotation 3", "image_id 99"],
    ),
    "box of three numbers": (
        lambda c: c["annotations"][0].update(bbox=[1, 2, 3]),
        ["annotation 1", "[1, 2, 3]", "not four numbers"],
    ),
    "box of texts": (
        lambda c: c["annotations"][0].update(bbox=["1", "2", "3", "4"]),
        ["annotation 1", "not four numbers"],
    ),
    "box with null": (
        lambda c: c["annotations"][0].update(bbox=[1, 2, 3, None]),
        ["annotation 1", "not four numbers"],
    ),
    "box with NaN": (
        lambda c: c["annotations"][0].update(bbox=[1.0, math.nan, 3.0, 4.0]),
        ["annotation 1", "nan", "not finite"],
    ),
    "box with infinity": (
        lambda c: c["annotations"][0].update(bbox=[1.0, 1.0, math.inf, 4.0]),
        ["annotation 1", "inf", "not finite"],
    ),
    "box of zero width": (
        lambda c: c["annotations"][0].update(bbox=[1.0, 1.0, 0.0, 4.0]),
        ["annotation 1", "zero width or height", "dataloader.train.dataset.degenerate=skip"],
    ),
    "box of negative height": (
        lambda c: c["annotations"][0].update(bbox=[9.0, 9.0, 4.0, -4.0]),
        ["annotation 1", "negative width or height"],
    ),
    "box beyond the right": (
        lambda c: c["annotations"][0].update(bbox=[50.0, 5.0, 15.0, 5.0]),
        ["annotation 1 (image 10, a.jpg)", "reaches 5 pixels beyond", "60 x 40"],
    ),
    "box beyond the top": (
        lambda c: c["annotations"][0].update(bbox=[5.0, -2.5, 15.0, 5.0]),
        ["annotation 1", "reaches 2.5 pixels beyond"],
    ),
    "box right of the image": (
        lambda c: c["annotations"][0].update(bbox=[60, 5, 1, 5]),
        ["annotation 1 (image 10, a.jpg)", "wholly outside the image of 60 x 40"],
    ),
    "box below the image": (
        lambda c: c["annotations"][0].update(bbox=[5.0, 40.0, 9.0, 0.5]),
        ["annotation 1", "wholly outside the image"],
    ),
    "box left of the image": (
        lambda c: c["annotations"][0].update(bbox=[-1, 5, 1, 5]),
        ["annotation 1", "wholly outside the image"],
    ),
    "box above the image": (
        lambda c: c["annotations"][0].update(bbox=[5.0, -0.75, 9.0, 0.75]),
        ["annotation 1", "wholly outside the image"],
    ),
    "strange iscrowd": (lambda c: c["annotations"][0].update(iscrowd=2), ["iscrowd is 2"]),
    "ignore": (lambda c: c["annotations"][0].update(ignore=1), ["annotation 1", '"ignore" is 1']),
    "polygon of two points": (
        lambda c: c["annotations"][0].update(segmentation=[[1, 2, 3, 4]]),
        ["annotation 1", "no polygon of 3 points"],
    ),
    "polygon of odd length": (
        lambda c: c["annotations"][0].update(segmentation=[[1, 2, 3, 4, 5, 6, 7]]),
        ["annotation 1", "polygon 1 has 7 numbers, which are not x, y pairs", "[[x0, y0, x1"],
    ),
    "polygon with text": (
        lambda c: c["annotations"][0].update(segmentation=[[1, 2, "3", 4, 5, 6]]),
        ["annotation 1", "polygon 1 holds '3', not a number"],
    ),
    "polygon with NaN": (
        lambda c: c["annotations"][0].update(segmentation=[[1, 2, math.nan, 4, 5, 6]]),
        ["annotation 1", "polygon 1 holds nan, not a finite number"],
    ),
    "polygon that is not in a list": (
        lambda c: c["annotations"][0].update(segmentation=[1, 2, 3, 4, 5, 6]),
        ["annotation 1", "is a flat list of 6 numbers", "mend: wrap it in [ ]"],
    ),
    "segmentation is text": (
        lambda c: c["annotations"][0].update(segmentation="1 2 3"),
        ["annotation 1", "segmentation is a str"],
    ),
    "RLE of another size": (
        lambda c: c["annotations"][1]["segmentation"].update(size=[60, 40]),
        ["annotation 2 (image 10, a.jpg)", "RLE of [height, width] [60, 40]", "image is [40, 60]"],
    ),
    "RLE of a strange size": (
        lambda c: c["annotations"][1]["segmentation"].update(size=2400),
        ["annotation 2", "with the size 2400, not [height, width]"],
    ),
    "RLE that ends early": (
        lambda c: c["annotations"][1]["segmentation"].update(counts=[0, 2000]),
        ["annotation 2", "counts sum to 2000, but 40 x 60 pixels are 2400"],
    ),
    "RLE with a negative run": (
        lambda c: c["annotations"][1]["segmentation"].update(counts=[-1, 2401]),
        ["annotation 2", "not whole numbers of at least 0"],
    ),
    "compressed RLE that is cut": (
        lambda c: c["annotations"][1]["segmentation"].update(counts="e<?i000"),
        ["annotation 2", "counts sum to"],
    ),
    "compressed RLE of strange characters": (
        lambda c: c["annotations"][1]["segmentation"].update(counts="é!"),
        ["annotation 2", "not compressed counts"],
    ),
    "RLE without size": (
        lambda c: c["annotations"][1]["segmentation"].pop("size"),
        ["annotation 2", "RLE"],
    ),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_a_broken_entry_is_named(small, name: str) -> None:
    spoil, words = DEFECTS[name]
    spoil(small.content)
    message = small.refusal()
    assert message.startswith(str(small.json_file))
    assert "mend: " in message
    for word in words:
        assert word in message


def test_a_missing_json(small) -> None:
    with pytest.raises(DatasetError, match=r"nowhere\.json: the annotation file does not exist"):
        check_coco_json(small.root / "nowhere.json", small.root)


def test_a_folder_as_json(small) -> None:
    with pytest.raises(DatasetError, match="this is a folder, not an annotation file"):
        check_coco_json(small.root, small.root)


def test_a_truncated_json(small) -> None:
    text = small.json_file.read_text()
    small.json_file.write_text(text[: len(text) // 2])
    with pytest.raises(DatasetError, match=r"instances\.json: not a complete json \(.*too early"):
        check_coco_json(small.json_file, small.root)


def test_a_json_that_is_a_list(small) -> None:
    small.json_file.write_text(json.dumps(small.content["annotations"]))
    with pytest.raises(DatasetError, match="is a list, not an object"):
        check_coco_json(small.json_file, small.root)


def test_a_binary_file_as_json(small) -> None:
    small.json_file.write_bytes(b"\xff\xfe\x00\x01" * 9)
    with pytest.raises(DatasetError, match=r"instances\.json: "):
        check_coco_json(small.json_file, small.root)


def test_one_defect_is_told_once(small) -> None:
    del small.content["images"][0]["width"]  # two annotations refer to this image
    message = small.refusal()
    assert message.splitlines()[0].endswith("1 defect:")


def test_ten_defects_are_printed_and_the_rest_is_counted(small) -> None:
    small.content["annotations"] = [
        {"id": number, "image_id": 10, "category_id": 77, "bbox": [0, 0, 5, 5]}
        for number in range(1, 26)
    ]
    lines = small.refusal().splitlines()
    assert "25 defects, the first 10 are" in lines[0]
    assert len(lines) == 11
    assert "annotation 10 " in lines[10]


@pytest.mark.parametrize("box", [[40.0, 5.0, 20.99, 5.0], [-0.9, 5.0, 10.0, 5.0]])
def test_less_than_a_pixel_beyond_the_image_is_rounding(small, box: list[float]) -> None:
    small.content["annotations"][0]["bbox"] = box
    small.save()
    check_coco_json(small.json_file, small.root)
    assert "pixels beyond" in small.refusal(tolerance=0.5)


def test_degenerate_boxes_pass_on_request_and_are_logged(small, caplog) -> None:
    small.content["annotations"][0]["bbox"] = [5.0, 5.0, 20.0, 0.0]
    small.save()
    summary = check_coco_json(small.json_file, small.root, degenerate="skip")
    assert summary.degenerate_ids == (1,)
    assert re.search(r"1 boxes of zero width or height .* annotation ids 1", caplog.text)
    small.content["annotations"][0]["bbox"] = [5.0, 5.0, 20.0, -1.0]
    assert "negative" in small.refusal(degenerate="skip")
    with pytest.raises(DatasetError, match="'drop'"):
        check_coco_json(small.json_file, small.root, degenerate="drop")


def test_evaluation_needs_area_and_positive_ids(small) -> None:
    small.content["annotations"][0]["id"] = 0
    del small.content["annotations"][2]["area"]
    small.save()
    check_coco_json(small.json_file, small.root)
    message = small.refusal(evaluation=True)
    assert "annotation 0" in message and "counts as no match" in message
    assert 'annotation 3: lacks "area"' in message


@pytest.mark.parametrize("area", [None, math.nan, math.inf, -1.0, "900", True, 10**400])
def test_evaluation_needs_areas_that_are_numbers(small, area) -> None:
    small.content["annotations"][1]["area"] = area
    small.save()
    check_coco_json(small.json_file, small.root)
    message = small.refusal(evaluation=True)
    assert "1 defect:" in message
    assert "annotation 2 (image 10, a.jpg): area is" in message
    small.content["annotations"][1]["area"] = 0
    small.save()
    check_coco_json(small.json_file, small.root, evaluation=True)


# image files


def test_a_missing_image(small) -> None:
    (small.root / "b.png").unlink()
    message = small.refusal()
    assert f"image 11 ({small.root / 'b.png'}): the file does not exist" in message
    assert "mend: correct image_root or file_name" in message
    assert "correct dataset.val_images" in small.refusal(image_key="dataset.val_images")
    check_coco_json(small.json_file, small.root, check_files=False)


def test_a_folder_that_is_not_the_images(small) -> None:
    with pytest.raises(DatasetError, match="3 defects"):
        check_coco_json(small.json_file, small.root / "elsewhere")


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "is empty"), (b"not an image at all", "not an image")]
)
def test_an_unreadable_image(small, content: bytes, words: str) -> None:
    (small.root / "a.jpg").write_bytes(content)
    message = small.refusal()
    assert "image 10" in message and words in message


@pytest.mark.parametrize(("name", "number"), [("a.jpg", 10), ("b.png", 11)])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_truncated_image(small, name: str, number: int, share: float) -> None:
    path = small.root / name
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    message = small.refusal()
    assert f"image {number} ({path}): the file cannot be read to its end" in message


def test_bytes_after_the_end_of_an_image_are_no_defect(small) -> None:
    with (small.root / "a.jpg").open("ab") as file:
        file.write(b"\x00" * 10_000)
    check_coco_json(small.json_file, small.root)


def test_an_image_of_another_size(small) -> None:
    small.content["images"][0].update(width=40, height=60)
    small.content["annotations"] = []
    message = small.refusal()
    assert "the file is 60 x 40 pixels" in message and "the json says 40 x 60" in message


def test_the_size_is_taken_after_exif_orientation(small) -> None:
    exif = Image.Exif()
    exif[274] = 6  # to be turned by 90 degrees
    pixels = np.zeros((60, 40, 3), dtype=np.uint8)  # stored upright, seen as 60 wide, 40 high
    Image.fromarray(pixels).save(small.root / "a.jpg", exif=exif)
    check_coco_json(small.json_file, small.root)
    Image.fromarray(pixels).save(small.root / "a.jpg")
    assert "the file is 40 x 60 pixels" in small.refusal()


# registered names, real data


@pytest.mark.usefixtures("catalog")
def test_check_dataset_by_name(small) -> None:
    register_coco_json("small", small.json_file, small.root)
    assert check_dataset("small").num_images == 3
    with pytest.raises(DatasetError, match="'unheard_of' is not registered"):
        check_dataset("unheard_of")


@pytest.mark.parametrize("name", ["bccd", "coco_mini"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_real_data_is_in_order(shared, name: str, split: str) -> None:
    folder = shared / "data" / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    json_file = folder / "annotations" / f"instances_{split}.json"
    maskless = "keep" if name == "bccd" else "error"
    summary = check_coco_json(json_file, folder / split, evaluation=True, maskless=maskless)
    assert summary.num_annotations == len(json.loads(json_file.read_text())["annotations"])
