"""Masks through augmentations: crops, padding, flips, resizing; what is left, and what is not."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import detectron2.data.transforms as T
import numpy as np
import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.data import DatasetMapper
from detectron2.structures import BitMasks, BoxMode
from PIL import Image
from pycocotools import mask as mask_util

from ms_detr.data import DatasetError, InstanceMaskMapper, checked_dataset_dicts, register_coco_json

HEIGHT, WIDTH = 40, 60


def polygon(x0: float, y0: float, x1: float, y1: float) -> list[list[float]]:
    return [[x0, y0, x1, y0, x1, y1, x0, y1]]


def rle(x0: int, y0: int, x1: int, y1: int) -> dict:
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8, order="F")
    mask[y0:y1, x0:x1] = 1
    return mask_util.encode(mask)


def annotation(x0: int, y0: int, x1: int, y1: int, form=polygon, **more) -> dict:
    return {
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": 0,
        "segmentation": form(x0, y0, x1, y1),
        **more,
    }


@pytest.fixture
def record(tmp_path: Path):
    """Makes a record of an image of 40 x 60 with the given annotations."""
    path = tmp_path / "image.png"
    Image.fromarray(np.full((HEIGHT, WIDTH, 3), 9, dtype=np.uint8)).save(path)

    def make(*annotations: dict) -> dict:
        size = {"height": HEIGHT, "width": WIDTH}
        return {"file_name": str(path), "image_id": 7, **size, "annotations": list(annotations)}

    return make


class Crop(T.Augmentation):
    """Always the same crop."""

    def __init__(self, x: int, y: int, width: int, height: int) -> None:
        self.place = (x, y, width, height)

    def get_transform(self, image: np.ndarray) -> T.Transform:
        return T.CropTransform(*self.place)


def mapped(record: dict, *augmentations, recompute_boxes: bool = False) -> dict:
    mapper = InstanceMaskMapper(
        augmentations=augmentations, image_format="RGB", recompute_boxes=recompute_boxes
    )
    return mapper(record)


@pytest.mark.parametrize("form", [polygon, rle])
def test_a_mask_at_the_border_of_a_crop(record, form) -> None:
    """Exactly the part of the object that lies on the crop, and its box."""
    source = record(annotation(10, 5, 30, 20, form), annotation(0, 0, 9, 9, form))
    before = copy.deepcopy(source)
    result = mapped(source, Crop(20, 10, 25, 30), recompute_boxes=True)
    expected = torch.zeros(30, 25, dtype=torch.bool)
    expected[0:10, 0:10] = True
    instances = result["instances"]
    assert len(instances) == 1, "the object that is not on the crop is dropped"
    assert result["image"].shape == (3, 30, 25) and instances.image_size == (30, 25)
    assert isinstance(instances.gt_masks, BitMasks)
    assert torch.equal(instances.gt_masks.tensor, expected[None])
    assert instances.gt_boxes.tensor.tolist() == [[0, 0, 10, 10]]
    assert source == before, "the record is not changed"


@pytest.mark.parametrize("form", [polygon, rle])
def test_flip_and_resize(record, form) -> None:
    flip, resize = T.RandomFlip(prob=1.0), T.Resize((2 * HEIGHT, 2 * WIDTH))
    instances = mapped(record(annotation(10, 5, 30, 20, form)), flip, resize)["instances"]
    expected = torch.zeros(2 * HEIGHT, 2 * WIDTH, dtype=torch.bool)
    expected[10:40, 60:100] = True
    assert torch.equal(instances.gt_masks.tensor[0], expected)
    assert instances.gt_boxes.tensor.tolist() == [[60, 10, 100, 40]]


def test_boxes_are_recomputed_only_where_asked(record) -> None:
    triangle = annotation(10, 5, 30, 25)
    triangle["segmentation"] = [[10, 5, 30, 25, 10, 25]]
    crop = Crop(20, 5, 30, 30)
    kept = mapped(record(triangle), crop)["instances"]
    assert kept.gt_boxes.tensor.tolist() == [[0, 0, 10, 20]]
    tight = mapped(record(triangle), crop, recompute_boxes=True)["instances"]
    assert torch.equal(tight.gt_boxes.tensor, tight.gt_masks.get_bounding_boxes().tensor)
    x0, y0, x1, y1 = tight.gt_boxes.tensor[0].tolist()
    assert (x0, y1) == (0, 20) and 9 <= y0 <= 11 and 9 <= x1 <= 10
    assert torch.equal(kept.gt_masks.tensor, tight.gt_masks.tensor)


@pytest.mark.parametrize("recompute_boxes", [False, True])
def test_images_without_objects_and_crowds(record, recompute_boxes: bool) -> None:
    crowd = annotation(10, 5, 30, 20, rle, iscrowd=1)
    outside = annotation(0, 0, 5, 5)
    for entries in ([], [crowd], [crowd, outside]):
        crop = Crop(20, 10, 25, 30)
        instances = mapped(record(*entries), crop, recompute_boxes=recompute_boxes)["instances"]
        assert len(instances) == 0
        assert instances.gt_masks.tensor.shape == (0, 30, 25)
        assert instances.gt_boxes.tensor.shape == (0, 4)
    found = mapped(record(annotation(25, 12, 30, 20), crowd), recompute_boxes=recompute_boxes)
    assert len(found["instances"]) == 1


def test_an_object_whose_mask_has_no_area_is_named(record) -> None:
    flat = annotation(20, 20, 50, 35, lambda *corners: [[20, 20, 50, 20, 35, 20]])
    with pytest.raises(DatasetError, match=r"image\.png \(image 7\): object 0 .* has no mask"):
        mapped(record(flat))


def test_an_object_without_a_mask_is_named(record) -> None:
    bare = annotation(10, 5, 30, 20)
    del bare["segmentation"]
    with pytest.raises(DatasetError, match=r"image\.png \(image 7\): object 1 .* has no mask"):
        mapped(record(annotation(0, 0, 9, 9), bare))


def test_agrees_with_the_mapper_of_detectron2_without_a_crop(shared: Path, catalog) -> None:
    """Boxes, classes and pixels of real photos, with parts and RLE, flipped and resized."""
    folder = shared / "data" / "coco_mini"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    json_file = folder / "annotations" / "instances_val.json"
    name = register_coco_json("coco_mini_val", json_file, folder / "val")
    augmentations = [T.RandomFlip(prob=1.0), T.Resize((200, 300))]
    theirs = DatasetMapper(
        True,
        augmentations=augmentations,
        image_format="RGB",
        use_instance_mask=True,
        instance_mask_format="bitmask",
    )
    dicts = checked_dataset_dicts(name, maskless="error", check_files=False)
    for source in dicts[:8]:
        ours = mapped(source, *augmentations)
        other = theirs(source)
        assert torch.equal(ours["image"], other["image"])
        assert torch.equal(ours["instances"].gt_boxes.tensor, other["instances"].gt_boxes.tensor)
        assert torch.equal(ours["instances"].gt_classes, other["instances"].gt_classes)
        assert torch.equal(ours["instances"].gt_masks.tensor, other["instances"].gt_masks.tensor)
        assert set(ours) == set(other)


@pytest.fixture
def jitter(repository):
    """The mapper of the config `lsj`, with another range of scales."""

    def make(scale: float):
        mapper = LazyConfig.load(str(repository / "configs/common/data/lsj.py"))
        mapper = mapper.dataloader.train.mapper
        mapper.augmentations[0].min_scale = mapper.augmentations[0].max_scale = scale
        mapper.augmentations[2].prob = 0.0
        return instantiate(mapper)

    return make


@pytest.mark.parametrize("form", [polygon, rle])
def test_jitter_pads_small_images_and_no_mask_covers_the_padding(record, jitter, form) -> None:
    result = jitter(0.5)(record(annotation(30, 20, 60, 40, form)))
    assert result["image"].shape == (3, 1024, 1024)
    scale = 512 / WIDTH  # the longer side fits the square of half of 1024
    height = round(HEIGHT * scale)
    assert (result["image"][:, height:] == 128).all() and (result["image"][:, :, 512:] == 128).all()
    mask = result["instances"].gt_masks.tensor[0]
    assert not mask[height:].any() and not mask[:, 512:].any()
    assert mask.sum() == pytest.approx(30 * 20 * scale**2, rel=0.01)
    assert torch.equal(
        result["instances"].gt_boxes.tensor,
        result["instances"].gt_masks.get_bounding_boxes().tensor,
    )


@pytest.mark.parametrize("form", [polygon, rle])
def test_jitter_cuts_large_images(record, jitter, form) -> None:
    np.random.seed(0)
    result = jitter(2.0)(record(annotation(0, 0, 60, 40, form)))
    assert result["image"].shape == (3, 1024, 1024)
    instances = result["instances"]
    height = min(1024, round(HEIGHT * 2048 / WIDTH))
    assert instances.gt_masks.tensor.sum() == height * 1024
    assert instances.gt_boxes.tensor.tolist() == [[0, 0, 1024, height]]


def test_multi_part_polygons_keep_all_parts(record) -> None:
    parts = annotation(10, 5, 50, 20)
    parts["segmentation"] = polygon(10, 5, 20, 20) + polygon(40, 5, 50, 20)
    mask = mapped(record(parts))["instances"].gt_masks.tensor[0]
    assert mask.sum() == 300 and mask[10, 15] and mask[10, 45] and not mask[10, 30]


def test_a_hundred_objects(record) -> None:
    many = [annotation(x, y, x + 5, y + 3) for y in range(0, 30, 3) for x in range(0, 50, 5)]
    instances = mapped(record(*many))["instances"]
    assert len(instances) == 100
    areas = instances.gt_masks.tensor.flatten(1).sum(1)
    assert (areas == 15).all() and not math.isnan(float(instances.gt_boxes.tensor.sum()))
    assert (instances.gt_masks.tensor.sum(0) <= 1).all()
