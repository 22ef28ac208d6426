"""The report of a data set: all defects at once, its numbers, and values that fit."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from ms_detr.config import load_config
from ms_detr.data import check_coco_json
from ms_detr.data.proposals import propose
from ms_detr.data.report import examine
from ms_detr.data.statistics import ClassCount, Numbers, count_all


def test_defects_of_all_stages_are_reported_together(small) -> None:
    small.content["annotations"][0]["bbox"] = [1, math.nan, 3, 4]
    small.content["annotations"][2]["category_id"] = 77
    small.content["categories"].append({"id": 9, "name": "dog"})
    small.content["images"][2]["width"] = 21
    (small.root / "b.png").write_bytes(b"")
    small.content["images"].append({"id": 12})
    small.save()
    report = examine(small.json_file, small.root)
    found = {group.noun: [f.where for f in group.findings] for group in report.defects}
    assert report.num_defects == 6 == sum(len(group.findings) for group in report.defects)
    text = json.dumps(report.as_dict())
    for words in ("not finite", "category_id 77", "belongs to category 8", "20 x 30", "is empty"):
        assert words in text
    assert set(found) == {"annotation", "category", "image"}
    assert report.numbers.objects == 0 and report.numbers.crowd == 1
    # what stops a training is the same
    assert "6 defects" in small.refusal()


def test_absent_lists_are_noted_and_the_others_looked_at(small) -> None:
    small.content["images"] = {}
    small.content["annotations"][0].pop("image_id")
    small.content["categories"][0]["name"] = ""
    small.save()
    report = examine(small.json_file, small.root)
    assert sorted((g.noun, g.count) for g in report.defects) == [
        ("annotation", 1),
        ("category", 1),
        ("json", 1),
    ]


def test_kinds_are_counted_and_the_first_kept(small) -> None:
    for number in range(100, 140):
        box = [1, 1, 0, 5] if number % 2 else [1, 1, -1, 5]
        entry = {**small.content["annotations"][0], "id": number, "bbox": box}
        small.content["annotations"].append(entry)
    small.save()
    first, second = examine(small.json_file, small.root, limit=3).defects
    assert (first.count, second.count) == (20, 20)
    assert [f.where[:14] for f in first.findings] == [f"annotation {n}" for n in (100, 102, 104)]
    everything = examine(small.json_file, small.root, limit=99)
    assert [len(group.findings) for group in everything.defects] == [20, 20]


def test_numbers_by_hand(small) -> None:
    numbers = examine(small.json_file, small.root).numbers
    assert (numbers.images, numbers.images_without_objects) == (3, 1)
    assert (numbers.annotations, numbers.crowd, numbers.objects) == (3, 1, 2)
    assert numbers.objects_per_image == (0, 1.0, 1)
    assert numbers.box_sizes == {"small": 1, "medium": 1, "large": 0}  # 200 and 1024 pixels
    assert numbers.short_sides == (20, 32.0, 40) and numbers.long_sides == (30, 32.0, 60)
    assert (numbers.image_sizes, numbers.with_mask, numbers.flat_boxes) == (3, 1, 0)
    assert numbers.tenth_box == pytest.approx(math.sqrt(200 + 0.1 * 824))
    assert numbers.classes == (ClassCount(3, "cat", 1, 1), ClassCount(8, "dog", 1, 1))


def test_numbers_of_nothing() -> None:
    numbers = count_all({"images": [], "annotations": [], "categories": []})
    assert numbers.objects_per_image == (0, 0.0, 0) and numbers.tenth_box == 0
    assert propose(numbers) == []


def sound(**changes) -> Numbers:
    """Numbers of an ordinary data set: nothing special is proposed."""
    classes = (ClassCount(1, "a", 900, 500), ClassCount(2, "b", 900, 400))
    return replace(
        Numbers(
            images=1000, images_without_objects=0, annotations=1800, crowd=0, objects=1800,
            objects_per_image=(1, 2.0, 40), box_sizes={"small": 0, "medium": 1800, "large": 0},
            short_sides=(400, 480.0, 480), long_sides=(640, 640.0, 640), image_sizes=2,
            tenth_box=40.0, flat_boxes=0, with_mask=0, classes=classes,
        ),
        **changes,
    )  # fmt: skip


RARE = (ClassCount(1, "a", 900, 800), ClassCount(2, "b", 9, 40), ClassCount(3, "c", 2, 2))
PROPOSED = {
    "ordinary": (sound(), ["model.heads.num_classes=2", "model.queries.num_queries=300"]),
    "many objects": (sound(objects_per_image=(0, 9.0, 431)), ["model.queries.num_queries=900"]),
    "flat boxes": (sound(flat_boxes=4), ["dataloader.train.dataset.degenerate=skip"]),
    "all masks": (sound(with_mask=1800), ["dataloader.train.dataset.maskless=error"]),
    "some masks": (sound(with_mask=1799), ["dataloader.train.dataset.maskless=skip"]),
    "small images": (
        sound(short_sides=(90, 96.0, 99)),
        ["dataloader.test.mapper.augmentations.0.short_edge_length=192"],
    ),
    "small objects": (
        sound(tenth_box=4.0),
        ["dataloader.test.mapper.augmentations.0.short_edge_length=960"],
    ),
    "a long tail": (sound(classes=RARE), ["+dataloader.train.repeat_threshold=0.04"]),
}


@pytest.mark.parametrize("name", PROPOSED)
def test_proposals_fit_and_are_overrides_that_a_config_takes(name: str, repository: Path) -> None:
    numbers, wanted = PROPOSED[name]
    overrides = [part for p in propose(numbers) for part in p.overrides.split()]
    assert set(wanted) <= set(overrides)
    if name == "ordinary":
        assert overrides == wanted
    config = repository / "configs/custom/finetune_mask.py"
    if "mask" not in name:
        config = repository / "configs/custom/finetune.py"
    for text in overrides:
        assert text.count("=") == 1
    load_config(config, overrides)


def test_an_evaluation_asks_for_nothing_that_is_trained(small) -> None:
    assert propose(sound(), evaluation=True) == []
    (only,) = propose(sound(flat_boxes=1), evaluation=True)
    assert only.overrides == "dataloader.test.dataset.degenerate=skip"


def test_a_sound_set_has_a_report_without_defects(small) -> None:
    report = examine(small.json_file, small.root)
    assert (report.num_defects, report.notes) == (0, ())
    assert check_coco_json(small.json_file, small.root).num_annotations == 3
