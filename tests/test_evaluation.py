"""The evaluator: COCO's published numbers, empty predictions, images without objects."""

from __future__ import annotations

import copy
import json
import math
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, Instances
from pycocotools import mask as mask_util

from ms_detr.data import DatasetError, register_coco_json
from ms_detr.data.segmentations import box_of, rasterise
from ms_detr.evaluation import CocoEvaluator

NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


@pytest.fixture
def register():
    """Registers data sets for one test."""
    names = []

    def add(name: str, json_file: Path, image_root: Path) -> str:
        names.append(register_coco_json(name, json_file, image_root))
        return name

    yield add
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def _predictions(results: list[dict], image: dict, to_class: dict[int, int]) -> Instances:
    """Detections of one image as a model would return them."""
    found = Instances((image["height"], image["width"]))
    boxes = torch.tensor([item.get("bbox", [0, 0, 1, 1]) for item in results]).reshape(-1, 4)
    found.pred_boxes = Boxes(torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1))
    found.scores = torch.tensor([item["score"] for item in results])
    found.pred_classes = torch.tensor(
        [to_class[item["category_id"]] for item in results], dtype=torch.long
    )
    if results and "segmentation" in results[0]:
        masks = np.stack([mask_util.decode(item["segmentation"]) for item in results])
        found.pred_masks = torch.from_numpy(masks.astype(bool))
    return found


@pytest.fixture
def official(shared: Path, register, tmp_path: Path) -> Path:
    """The folder of COCO's own check, whose ground truth is registered as `official`."""
    folder = shared / "data" / "coco_eval_check"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    register("official", folder / "instances_val2014_100.json", tmp_path)
    return folder


@pytest.mark.parametrize("task", ["bbox", "segm"])
def test_the_twelve_official_numbers(official: Path, task: str) -> None:
    evaluator = CocoEvaluator("official", tasks=(task,), distributed=False)
    results = official / f"instances_val2014_fake{task}100_results.json"
    numbers = evaluator.evaluate_results(results)[task]

    expected = json.loads((official / "expected.json").read_text())
    ours = [numbers[name] / 100 for name in NAMES]
    assert ours == pytest.approx(expected["pycocotools"][task], abs=1e-7)
    assert [round(value, 3) for value in ours] == expected["published"][task]


@pytest.mark.parametrize(("task", "tolerance"), [("bbox", 1e-3), ("segm", 1e-7)])
def test_the_official_numbers_from_instances(official: Path, task: str, tolerance: float) -> None:
    """`Boxes` are single precision: a few of these boxes lie exactly on an IoU threshold."""
    by_image = defaultdict(list)
    results = official / f"instances_val2014_fake{task}100_results.json"
    for item in json.loads(results.read_text()):
        by_image[item["image_id"]].append(item)
    truth = json.loads((official / "instances_val2014_100.json").read_text())
    to_class = MetadataCatalog.get("official").thing_dataset_id_to_contiguous_id

    evaluator = CocoEvaluator("official", tasks=(task,), distributed=False)
    evaluator.reset()
    for image in truth["images"]:
        found = _predictions(by_image[image["id"]], image, to_class)
        evaluator.process([{"image_id": image["id"]}], [{"instances": found}])
    numbers = evaluator.evaluate()[task]

    expected = json.loads((official / "expected.json").read_text())["pycocotools"][task]
    assert [numbers[name] / 100 for name in NAMES] == pytest.approx(expected, abs=tolerance)


@pytest.fixture
def two_images(tmp_path: Path, register) -> str:
    """Image 1 has one object of 40 x 40 pixels, image 2 has none; one category, id 7."""
    box = [10.0, 10.0, 40.0, 40.0]
    content = {
        "images": [
            {"id": number, "file_name": f"{number}.jpg", "width": 100, "height": 100}
            for number in (1, 2)
        ],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 7, "bbox": box, "area": 1600.0, "iscrowd": 0}
        ],
        "categories": [{"id": 7, "name": "thing"}],
    }
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(content))
    return register("two_images", path, tmp_path)


def _evaluate(
    name: str, boxes_of_images: dict[int, list[list[float]]], **options: str
) -> dict[str, float]:
    evaluator = CocoEvaluator(name, distributed=False, **options)
    evaluator.reset()
    for number, boxes in boxes_of_images.items():
        found = Instances((100, 100))
        found.pred_boxes = Boxes(torch.tensor(boxes).reshape(-1, 4))
        found.scores = torch.linspace(0.9, 0.5, len(boxes))
        found.pred_classes = torch.zeros(len(boxes), dtype=torch.long)
        evaluator.process([{"image_id": number}], [{"instances": found}])
    return evaluator.evaluate()["bbox"]


def test_a_hit_counts_fully_and_undefined_numbers_are_nan(two_images: str) -> None:
    numbers = _evaluate(two_images, {1: [[10.0, 10.0, 50.0, 50.0]], 2: []})
    assert numbers["AP"] == pytest.approx(100)
    assert numbers["AR1"] == pytest.approx(100)
    assert math.isnan(numbers["APs"]) and math.isnan(numbers["ARs"])


def test_a_better_scored_false_alarm_on_an_empty_image_costs_precision(two_images: str) -> None:
    alarm = [[0.0, 0.0, 60.0, 60.0]]
    hit = [[90.0, 90.0, 95.0, 95.0], [10.0, 10.0, 50.0, 50.0]]  # the hit has the lower score
    numbers = _evaluate(two_images, {1: hit, 2: alarm})
    assert numbers["AP"] == pytest.approx(100 / 3)  # the only hit comes third
    assert numbers["AR10"] == pytest.approx(100)


def test_no_detection_at_all_gives_nan_not_a_crash(two_images: str) -> None:
    numbers = _evaluate(two_images, {1: [], 2: []})
    assert set(numbers) >= set(NAMES)
    assert all(math.isnan(numbers[name]) for name in NAMES)


def test_a_written_results_file_scores_as_the_predictions_did(
    two_images: str, tmp_path: Path
) -> None:
    boxes = {1: [[90.0, 90.0, 95.0, 95.0], [10.0, 10.0, 50.0, 46.0]], 2: []}
    first = _evaluate(two_images, boxes, output_dir=str(tmp_path))
    evaluator = CocoEvaluator(two_images, distributed=False)
    again = evaluator.evaluate_results(tmp_path / "coco_instances_results.json")["bbox"]
    assert first == pytest.approx(again, nan_ok=True)
    assert 0 < first["AP"] < 100


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([{"image_id": 9, "category_id": 7, "score": 0.5, "bbox": [0, 0, 1, 1]}], "image_id 9"),
        ([{"image_id": 1, "category_id": 0, "score": 0.5, "bbox": [0, 0, 1, 1]}], "category_id 0"),
        ({"annotations": []}, "not a list"),
    ],
)
def test_results_of_another_data_set_are_refused(
    two_images: str, tmp_path: Path, content: object, words: str
) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=words):
        CocoEvaluator(two_images, distributed=False).evaluate_results(path)


# masks


def _masked(annotations: list[dict], size: tuple[int, int], to_class: dict[int, int]) -> Instances:
    """Ground truth as a perfect model would return it."""
    found = Instances(size)
    masks = np.array([rasterise(a["segmentation"], *size) for a in annotations], dtype=bool)
    boxes = [a["bbox"] if "bbox" in a else box_of(a["segmentation"]) for a in annotations]
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    found.pred_boxes = Boxes(torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1))
    found.scores = torch.full((len(annotations),), 0.9)
    found.pred_classes = torch.tensor([to_class[a["category_id"]] for a in annotations]).long()
    found.pred_masks = torch.from_numpy(masks.reshape(-1, *size))
    return found


def _evaluate_truth(name: str, truth: dict, **options) -> dict[str, dict[str, float]]:
    to_class = MetadataCatalog.get(name).thing_dataset_id_to_contiguous_id
    evaluator = CocoEvaluator(name, distributed=False, **options)
    evaluator.reset()
    for image in truth["images"]:
        mine = [
            a
            for a in truth["annotations"]
            if a["image_id"] == image["id"] and not a.get("iscrowd", 0)
        ]
        found = _masked(mine, (image["height"], image["width"]), to_class)
        evaluator.process([{"image_id": image["id"]}], [{"instances": found}])
    return evaluator.evaluate()


def _square(x: int, y: int, side: int) -> list[list[int]]:
    return [[x, y, x + side, y, x + side, y + side, x, y + side]]


@pytest.fixture
def masked(tmp_path: Path, register) -> dict:
    """Polygons, a mask of two parts, both kinds of RLE and a crowd; registered as `masked`."""
    pixels = np.zeros((80, 100), dtype=np.uint8, order="F")
    pixels[60:75, 10:40] = 1
    compressed = mask_util.encode(pixels)
    compressed["counts"] = compressed["counts"].decode()
    crowd = {"size": [80, 100], "counts": [4000, 2400, 1600]}
    plain = {"size": [80, 100], "counts": [80 * 90, 40, 40, 40, 680]}
    masks = [_square(5, 5, 30), _square(5, 40, 9) + _square(30, 40, 9), compressed, plain, crowd]
    annotations = [
        {
            "id": number,
            "image_id": 1,
            "category_id": 7,
            "bbox": box_of(mask),
            "area": float(rasterise(mask, 80, 100).sum()),
            "iscrowd": int(mask is crowd),
            "segmentation": mask,
        }
        for number, mask in enumerate(masks, start=1)
    ]
    content = {
        "images": [{"id": n, "file_name": f"{n}.jpg", "width": 100, "height": 80} for n in (1, 2)],
        "annotations": annotations,
        "categories": [{"id": 7, "name": "thing"}],
    }
    path = tmp_path / "masked.json"
    path.write_text(json.dumps(content))
    register("masked", path, tmp_path)
    return content


def test_perfect_masks_give_100(masked: dict) -> None:
    results = _evaluate_truth("masked", masked)
    for task in ("bbox", "segm"):
        assert results[task]["AP"] == pytest.approx(100)
        assert results[task]["AR100"] == pytest.approx(100)


def test_perfect_masks_of_real_photos_give_100(shared: Path, register) -> None:
    folder = shared / "data" / "coco_mini"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    json_file = folder / "annotations" / "instances_val.json"
    register("coco_mini_val_truth", json_file, folder / "val")
    truth = json.loads(json_file.read_text())
    results = _evaluate_truth("coco_mini_val_truth", truth)
    assert results["segm"]["AP"] == pytest.approx(100)
    assert results["segm"]["AP75"] == results["bbox"]["AP75"] == pytest.approx(100)


def test_a_wrong_mask_in_a_right_box_counts_for_boxes_only(masked: dict) -> None:
    masked["annotations"] = masked["annotations"][:1]
    half = copy.deepcopy(masked)
    half["annotations"][0]["segmentation"] = [[5, 5, 35, 5, 5, 35]]
    results = _evaluate_truth("masked", half)
    # one of the four objects is found, by its box; its mask has an IoU of about a half
    assert results["bbox"]["AR100"] == pytest.approx(25)
    assert results["segm"]["AR100"] < 3


def test_boxes_of_the_truth_may_come_from_its_masks(masked: dict, tmp_path: Path, register) -> None:
    for annotation in masked["annotations"]:
        del annotation["bbox"]
    path = tmp_path / "boxless.json"
    path.write_text(json.dumps(masked))
    register("boxless", path, tmp_path)
    results = _evaluate_truth("boxless", masked)
    assert results["bbox"]["AP"] == results["segm"]["AP"] == pytest.approx(100)


def test_nothing_found_leaves_both_tasks_undefined(masked: dict) -> None:
    nothing = {**masked, "annotations": []}
    results = _evaluate_truth("masked", nothing, tasks=("bbox", "segm"))
    assert set(results) == {"bbox", "segm"}
    assert math.isnan(results["segm"]["AP"]) and math.isnan(results["bbox"]["AR1"])


def test_masks_of_images_without_objects_are_false_alarms(masked: dict) -> None:
    """A hit on image 1, and a better scored mask where nothing is."""
    masked["annotations"] = masked["annotations"][:1]
    evaluator = CocoEvaluator("masked", distributed=False)
    evaluator.reset()
    for number, score in ((1, 0.5), (2, 0.9)):
        found = _masked(masked["annotations"], (80, 100), {7: 0})
        found.scores[:] = score
        evaluator.process([{"image_id": number}], [{"instances": found}])
    # recall ends at one object of four, reached with a precision of a half: 26 of 101 points
    assert evaluator.evaluate()["segm"]["AP"] == pytest.approx(100 * 26 / 101 / 2)


def test_masks_that_are_missing_are_named(masked: dict, two_images: str) -> None:
    with pytest.raises(DatasetError, match=r"detections have none \(pred_masks\).*tasks=\[bbox\]"):
        _evaluate(two_images, {1: [[10.0, 10.0, 50.0, 50.0]]}, tasks=("segm",))
    with pytest.raises(DatasetError, match=r"annotation 1 \(image 1\) has no mask"):
        evaluator = CocoEvaluator(two_images, distributed=False)
        evaluator.reset()
        found = _masked(masked["annotations"][:1], (80, 100), {7: 0})
        evaluator.process([{"image_id": 1}], [{"instances": found}])
        evaluator.evaluate()
