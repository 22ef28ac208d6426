"""What is asked of masks, what is left out for want of one, and what is left of a training."""

from __future__ import annotations

import pytest

from ms_detr.data import DatasetError, check_coco_json

FLAT = [[20, 20, 50, 20, 35, 20]]  # three points on a line
NO_MASK = [
    ([], "absent or empty"),
    (None, "absent or empty"),
    ({"counts": [2400], "size": [40, 60]}, "empty RLE"),
    (FLAT, "has no area"),
]


@pytest.mark.parametrize(("segmentation", "reason"), NO_MASK)
def test_objects_without_a_mask_are_errors_or_skipped_where_masks_are_wanted(
    small, segmentation, reason: str, caplog
) -> None:
    small.content["annotations"][0]["segmentation"] = segmentation
    small.content["annotations"][2]["segmentation"] = [[0, 0, 9, 0, 9, 9]]
    small.save()
    assert check_coco_json(small.json_file, small.root).maskless_ids == ()
    message = small.refusal(maskless="error")
    assert message.startswith(str(small.json_file)) and "1 defect:" in message
    assert "annotation 1 (image 10, a.jpg): has no mask" in message and reason in message
    assert "dataloader.train.dataset.maskless=skip" in message
    assert "maskless=keep" not in message and "configs/custom/small.py" in message
    summary = check_coco_json(small.json_file, small.root, maskless="skip")
    assert summary.maskless_ids == (1,)
    assert "1 objects without a mask are left out of training" in caplog.text
    assert "background" in caplog.text and "annotation ids 1\n" in caplog.text
    message = small.refusal(maskless="error", evaluation=True)
    assert "has no mask" in message and "skip" not in message
    assert "dataset.maskless=keep dataloader.evaluator.tasks=[bbox]" in message
    with pytest.raises(DatasetError, match="cannot be left out of an evaluation"):
        check_coco_json(small.json_file, small.root, maskless="skip", evaluation=True)
    with pytest.raises(DatasetError, match="maskless is 'drop'"):
        check_coco_json(small.json_file, small.root, maskless="drop")


@pytest.mark.parametrize("evaluation", [False, True])
def test_a_json_without_any_mask_is_told_once(small, evaluation: bool) -> None:
    for annotation in small.content["annotations"]:
        annotation["segmentation"] = []
    message = small.refusal(maskless="error", evaluation=evaluation)
    count = 3 if evaluation else 2  # a crowd is an object of the evaluation only
    assert "1 defect:" in message and f"none of the {count} objects has a mask" in message
    assert "skip" not in message, "nothing would be left"
    small.content["annotations"][0]["segmentation"] = [[5, 5, 25, 5, 25, 15, 4]]
    message = small.refusal(maskless="error")
    assert "none of" not in message and "2 defects" in message


def test_a_training_has_to_keep_an_object(small) -> None:
    del small.content["annotations"][0]["segmentation"]
    message = small.refusal(maskless="skip")
    assert "all 2 objects are left out of training" in message and "small.py" in message
    small.content["annotations"] = small.content["annotations"][:2]
    assert "the only object is left out" in small.refusal(maskless="skip")
    check_coco_json(small.json_file, small.root)
    small.content["annotations"][0].update(bbox=[5, 5, 0, 9])
    assert "the only object is left out" in small.refusal(degenerate="skip")
    check_coco_json(small.json_file, small.root, degenerate="skip", evaluation=True)


def test_classes_and_images_that_lose_all_objects_are_named(small, caplog) -> None:
    small.content["annotations"][2]["category_id"] = 8
    summary = check_coco_json(small.json_file, small.root, maskless="skip")
    assert summary.num_images_without_objects == 2
    assert "all objects of these classes are left out: 'dog'" in caplog.text
    caplog.clear()
    small.content["annotations"][2]["category_id"] = 3
    small.save()
    check_coco_json(small.json_file, small.root, maskless="skip")
    assert "these classes" not in caplog.text


def test_a_box_apart_from_its_mask_is_told_once(small, caplog) -> None:
    small.content["annotations"][2]["segmentation"] = [[0, 0, 9, 0, 9, 9]]
    small.save()
    check_coco_json(small.json_file, small.root, maskless="error")
    assert "overlap" not in caplog.text
    small.content["annotations"][0]["bbox"] = [30.0, 20.0, 20.0, 10.0]
    small.content["annotations"][2]["bbox"] = [0.0, 12.0, 9.0, 9.0]
    small.save()
    check_coco_json(small.json_file, small.root)
    assert "overlap" not in caplog.text, "masks are not wanted"
    check_coco_json(small.json_file, small.root, maskless="error")
    assert caplog.text.count("overlap") == 1
    assert "2 boxes do not overlap the mask of their object" in caplog.text
    assert "annotation ids 1, 3" in caplog.text


def test_an_absent_segmentation_is_no_mask_and_a_crowd_needs_one_in_evaluation(small) -> None:
    small.content["annotations"][2]["segmentation"] = [[0, 0, 9, 0, 9, 9]]
    for annotation in small.content["annotations"][:2]:
        del annotation["segmentation"]
    assert "1 defect:" in small.refusal(maskless="error")
    message = small.refusal(maskless="error", evaluation=True)
    assert "annotation 1 (" in message and "annotation 2 (" in message
    summary = check_coco_json(small.json_file, small.root, maskless="skip")
    assert summary.maskless_ids == (1,)


def test_parts_of_two_points_are_no_part_of_a_mask(small, caplog) -> None:
    small.content["annotations"][2]["segmentation"] = [[0, 0, 9, 0, 9, 9]]
    part, sliver = [5, 5, 25, 5, 25, 15], [1, 2, 3, 4]
    small.content["annotations"][0]["segmentation"] = [part, sliver]
    small.save()
    check_coco_json(small.json_file, small.root)
    assert "annotation 1" in (message := small.refusal(maskless="error"))
    assert "segmentation has 1 polygon of fewer than 3 points beside others" in message
    check_coco_json(small.json_file, small.root, maskless="skip")
    assert "1 masks lose polygons of fewer than three points, annotation ids 1" in caplog.text
    check_coco_json(small.json_file, small.root, maskless="error", evaluation=True)
    small.content["annotations"][0]["segmentation"] = [sliver, part]
    assert "takes it for a box" in small.refusal(maskless="error", evaluation=True)


def test_polygons_beyond_the_image_matter_where_masks_are_wanted(small) -> None:
    small.content["annotations"][2]["segmentation"] = [[0, 0, 32.5, 0, 32.5, 32]]
    small.content["annotations"][0]["segmentation"] = [[-7, 5, 25, 5, 25, 15]]
    small.save()
    check_coco_json(small.json_file, small.root)
    message = small.refusal(maskless="error")
    assert "1 defect:" in message
    assert "polygon that reaches 7 pixels beyond the image of 60 x 40 (allowed: 1)" in message
    assert "mend: clip it to the image" in message


def test_boxes_may_come_from_masks(small, caplog) -> None:
    for annotation in small.content["annotations"][:2]:
        del annotation["bbox"]
    small.save()
    summary = check_coco_json(small.json_file, small.root, evaluation=True)
    assert summary.boxless_ids == (1, 2)
    assert "2 annotations have no box and get that of their mask" in caplog.text
    small.content["annotations"][0]["segmentation"] = [[5, 5, 25, 5, 9, 15]]
    small.content["annotations"][0]["image_id"] = 12
    assert "the box of the mask [5.0, 5.0, 20.0, 10.0] reaches 5 pixels" in small.refusal()


@pytest.mark.parametrize(
    ("segmentation", "reason"),
    [
        (None, "segmentation is absent or empty"),
        ({"counts": [2400], "size": [40, 60]}, "segmentation is an empty RLE"),
        (FLAT, "segmentation has no area"),
    ],
)
def test_what_covers_nothing_gives_no_box(small, segmentation, reason: str) -> None:
    annotation = small.content["annotations"][0]
    annotation["segmentation"] = segmentation
    del annotation["bbox"]
    message = small.refusal()
    assert f'lacks "bbox", and has no mask that gives one ({reason}' in message


def test_many_ids_are_shortened_in_the_log(small, caplog) -> None:
    small.content["annotations"] = [
        {"id": number, "image_id": 10, "category_id": 3, "bbox": [0, 0, 5, 5]}
        for number in range(1, 31)
    ]
    part = [[0, 0, 5, 0, 5, 5]]
    small.content["annotations"].append(
        {**small.content["annotations"][0], "id": 31, "segmentation": part}
    )
    small.save()
    check_coco_json(small.json_file, small.root, maskless="skip")
    assert "30 objects without a mask" in caplog.text and "19, 20 and 10 more" in caplog.text
