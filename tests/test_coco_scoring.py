"""Scores of detections kept as arrays are those of detectron2's evaluator, bit by bit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Boxes, Instances
from pycocotools import mask as mask_util

from ms_detr import coco_scoring
from ms_detr.coco_scoring import Detections, ImageDetections, write_results
from ms_detr.data import DatasetError, register_coco_json
from ms_detr.evaluation import CocoEvaluator, has_fast_evaluation

SIDE, CATEGORIES = 64, (90, 3, 17, 5, 41)  # not sorted, with gaps
RECALLS = {"AR1", "AR10", "AR100", "ARs", "ARm", "ARl"}


@pytest.fixture
def truth(tmp_path: Path):
    """Six images: objects of all sizes, crowds, a category without objects, an empty image."""
    random = np.random.default_rng(0)
    annotations = []
    for number in range(40):
        width, height = (int(v) for v in random.integers(2, 40, 2))
        x, y = (int(v) for v in random.integers(0, SIDE - 40, 2))
        mask = np.zeros((SIDE, SIDE), np.uint8, order="F")
        mask[y : y + height, x : x + width] = 1
        rle = mask_util.encode(mask)
        rle["counts"] = rle["counts"].decode()
        annotations.append(
            {
                "id": number + 1, "image_id": 10 + number % 5, "bbox": [x, y, width, height],
                "category_id": CATEGORIES[number % 4], "area": width * height,
                "iscrowd": int(number % 9 == 0), "segmentation": rle,
            }
        )  # fmt: skip
    content = {
        "images": [
            {"id": 10 + n, "file_name": f"{n}.jpg", "width": SIDE, "height": SIDE} for n in range(6)
        ],
        "annotations": annotations,
        "categories": [{"id": number, "name": f"c{number}"} for number in CATEGORIES],
    }
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(content))
    name = register_coco_json("scored", path, tmp_path)
    yield content
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def instances(image: dict, truth: dict, count: int, masks: bool) -> Instances:
    """Truth that is shaken, with many equal scores, on ``count`` detections."""
    generator = torch.Generator().manual_seed(image["id"])
    own = [a for a in truth["annotations"] if a["image_id"] == image["id"]] or truth["annotations"]
    boxes = torch.tensor([own[i % len(own)]["bbox"] for i in range(count)]).reshape(-1, 4)
    x, y, w, h = boxes.float().unbind(1)
    boxes = torch.stack([x, y, x + w, y + h], 1)
    shake = 4 * torch.rand(count, 4, generator=generator) ** 3
    found = Instances((SIDE, SIDE))
    found.pred_boxes = Boxes(boxes + shake)
    found.scores = torch.randint(1, 20, (count,), generator=generator) / 20
    classes = [sorted(CATEGORIES).index(own[i % len(own)]["category_id"]) for i in range(count)]
    found.pred_classes = torch.tensor(classes, dtype=torch.long)
    if masks:
        ys, xs = torch.arange(SIDE)[:, None], torch.arange(SIDE)
        x0, y0, x1, y1 = found.pred_boxes.tensor[..., None, None].unbind(1)
        found.pred_masks = (ys >= y0) & (ys < y1) & (xs >= x0) & (xs < x1)
    return found


def evaluate(
    evaluator: COCOEvaluator, truth: dict, count: int, masks: bool, chosen: list[int] | None = None
) -> dict:
    evaluator.reset()
    for number, image in enumerate(truth["images"]):
        found = instances(image, truth, 0 if number == 2 else count, masks)
        evaluator.process([{"image_id": image["id"]}], [{"instances": found}])
    return evaluator.evaluate(img_ids=chosen)


@pytest.mark.parametrize("group", [1, 60, 10**6])
@pytest.mark.parametrize(("count", "masks"), [(30, True), (500, False)])
def test_as_detectron2(truth, tmp_path, monkeypatch, group, count, masks):
    """500 detections are more than the 100 per image and category that are scored."""
    monkeypatch.setattr(coco_scoring, "GROUP", group)
    theirs = COCOEvaluator(
        "scored", None, False, str(tmp_path / "theirs"), use_fast_impl=has_fast_evaluation()
    )
    ours = CocoEvaluator("scored", distributed=False, output_dir=str(tmp_path / "ours"))
    expected, got = (evaluate(evaluator, truth, count, masks) for evaluator in (theirs, ours))
    assert got.keys() == expected.keys() == ({"bbox", "segm"} if masks else {"bbox"})
    for task, numbers in expected.items():
        known = {key: value for key, value in got[task].items() if key not in RECALLS}
        np.testing.assert_equal(known, dict(numbers))  # to the bit; NaN equals NaN
        assert 0 < numbers["AP"] < 100 and got[task]["AR1"] > 0
    name = "coco_instances_results.json"
    assert (tmp_path / "ours" / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes()


def test_chosen_images(truth):
    theirs = COCOEvaluator("scored", None, False, use_fast_impl=has_fast_evaluation())
    ours = CocoEvaluator("scored", distributed=False)
    expected, got = (evaluate(who, truth, 20, False, [11, 13]) for who in (theirs, ours))
    known = {key: value for key, value in got["bbox"].items() if key not in RECALLS}
    np.testing.assert_equal(known, dict(expected["bbox"]))


def packed(image: int, count: int) -> ImageDetections:
    random = np.random.default_rng(image)
    return ImageDetections(
        random.integers(0, 5, count), random.random(count), random.random((count, 4)), None
    )


def test_results_come_back_as_they_were():
    rows = [
        {"image_id": 4, "category_id": 1, "bbox": [0.1, 2.0, 3.5, 1e-9], "score": 0.7},
        {"image_id": 4, "category_id": 0, "bbox": [1.0, 0.0, 0.0, 7.0], "score": 1 / 3},
    ]
    back = ImageDetections.pack(rows).results(4, [50, 60])
    assert back == [{**rows[0], "category_id": 60}, {**rows[1], "category_id": 50}]
    assert len(ImageDetections.pack([])) == 0 and ImageDetections.pack([]).results(1, [5]) == []


@pytest.mark.parametrize("counts", [(), (0,), (2, 0, 3), (0, 1)])
def test_written_json_is_that_of_the_whole(counts, tmp_path):
    images = [(number, packed(number, count)) for number, count in enumerate(counts)]
    detections = Detections(images, [7, 8, 9, 10, 11])
    path = tmp_path / "results.json"
    with path.open("w") as file:
        write_results(detections, file)
    rows = [row for number, image in images for row in image.results(number, [7, 8, 9, 10, 11])]
    assert path.read_text() == json.dumps(rows)


def test_groups_hold_every_category_once(monkeypatch):
    monkeypatch.setattr(coco_scoring, "GROUP", 25)
    ids = [30, 10, 20, 50, 40]
    detections = Detections([(1, packed(1, 70))], ids)
    groups = list(detections.groups())
    assert len(groups) > 2
    in_order = [ids[index] for group in groups for index in group]
    assert in_order == sorted(ids)
    for group in groups:
        assert len(group) == 1 or np.isin(detections.class_N, group).sum() <= 25


def test_the_best_of_an_image_and_category_are_taken():
    """In the order of their scores; equal ones in the order in which they came."""
    image = ImageDetections(
        np.array([0, 0, 1, 0, 0]),
        np.array([0.5, 0.9, 0.1, 0.5, 0.2]),
        np.arange(20.0).reshape(5, 4),
        None,
    )
    entries = Detections([(3, image), (4, image)], [11, 12]).entries([0], "bbox", most=3)
    assert [entry["bbox"][0] for entry in entries] == [4, 0, 12] * 2
    assert [entry["id"] for entry in entries] == [1, 2, 3, 4, 5, 6]
    assert {entry["category_id"] for entry in entries} == {11}
    assert entries[0]["area"] == 6 * 7 and [entry["image_id"] for entry in entries][2:4] == [3, 4]


def test_what_does_not_belong_is_refused(truth):
    evaluator = CocoEvaluator("scored", distributed=False)
    found = instances(truth["images"][0], truth, 3, False)
    for number, last_class, message in ((99, 0, "image 99"), (10, 5, "class 5.*5 classes")):
        evaluator.reset()
        found.pred_classes[-1] = last_class
        evaluator.process([{"image_id": number}], [{"instances": found}])
        with pytest.raises(DatasetError, match=message):
            evaluator.evaluate()
