"""Sizes, pixels and crops of the published recipe."""

import itertools

import detectron2.data.transforms as T
import numpy as np
import pytest
import torch
import torchvision.transforms.functional as F
from detectron2.config import instantiate
from detectron2.data.detection_utils import read_image
from PIL import Image
from small_models import build, load

from ms_detr.data import DetrResize
from ms_detr.data.augmentations import detr_size


@pytest.mark.parametrize(
    "height, width, short, expected",
    [
        (480, 640, 800, (800, 1066)),  # 1066.67 down, where detectron2 rounds to 1067
        (640, 480, 800, (1066, 800)),
        (427, 640, 800, (800, 1199)),  # 1199.06
        (500, 500, 800, (800, 800)),
        (800, 1000, 800, (800, 1000)),  # as it is
        (360, 640, 800, (750, 1333)),  # 1333 * 360 / 640 = 749.81 up, then 1333.33 down
        (400, 800, 800, (666, 1332)),  # 666.5 is a half: to the even number
        (103, 640, 800, (215, 1335)),  # 214.53 up, and the long side passes the limit
        (640, 103, 480, (1335, 215)),
        (3, 4000, 800, (1, 1333)),
        (600, 1000, 480, (480, 800)),
        (3, 5, 799, (799, 1331)),  # the limit of 1333 is not reached: 1331.67
    ],
)
def test_sizes_by_hand(height, width, short, expected):
    image = np.zeros((height, width, 3), dtype=np.uint8)
    assert DetrResize(short, 1333).get_transform(image).apply_image(image).shape[:2] == expected


def test_without_a_limit_the_long_side_may_have_any_length():
    assert detr_size(100, 1000, 400, 10**9) == (400, 4000)
    image = np.zeros((10, 100, 3), dtype=np.uint8)
    assert DetrResize([40]).get_transform(image).new_w == 400


def test_every_size_is_within_its_bounds():
    for height, width in itertools.product(range(20, 700, 7), range(20, 700, 11)):
        ratio = max(height, width) / min(height, width)
        new = detr_size(height, width, 800, 1333)
        assert (new[0] < new[1]) == (height < width) or min(new) == max(new)
        assert max(new) / min(new) <= ratio < (max(new) + 1) / min(new)
        if ratio <= 1333 / 800:
            assert min(new) == 800
        else:
            assert abs(max(new) - 1333) <= ratio / 2 + 1


def test_draws_every_short_side_and_nothing_else():
    np.random.seed(0)
    lengths = [48, 52, 60]
    image = np.zeros((10, 20, 3), dtype=np.uint8)
    augmentation = DetrResize(lengths, max_size=110)
    drawn = [augmentation.get_transform(image).new_h for _ in range(200)]
    assert {length: drawn.count(length) > 30 for length in (48, 52, 55)} == dict.fromkeys(
        (48, 52, 55), True
    )  # 60 gives way to the limit
    assert set(drawn) == {48, 52, 55}


@pytest.mark.parametrize("bad", [{"short_edge_length": []}, {"short_edge_length": [480, 0]}])
def test_lengths_that_make_no_image_are_refused(bad):
    with pytest.raises(ValueError, match=r"short_edge_length is \[.*\]; give one or more"):
        DetrResize(**bad)


def test_a_limit_below_one_pixel_is_refused():
    with pytest.raises(ValueError, match="max_size is 0; give at least 1"):
        DetrResize(800, 0)


def test_an_image_too_thin_to_resize_is_named():
    with pytest.raises(ValueError, match=r"\(1, 5000\) has no row or column left"):
        detr_size(1, 5000, 800, 1333)


def test_boxes_follow_the_image():
    image = np.zeros((480, 640, 3), dtype=np.uint8)
    boxes = DetrResize(800, 1333).get_transform(image).apply_box(np.array([[0, 0, 640, 480.0]]))
    np.testing.assert_allclose(boxes, [[0, 0, 1066, 800]])


def photos(shared):
    """Some photos of COCO, of several shapes."""
    files = sorted((shared / "data" / "coco_mini" / "val").glob("*.jpg"))
    if not files:
        pytest.skip(f"no photos of COCO below {shared}")
    return files[:: max(1, len(files) // 4)][:4]


def test_the_detector_sees_what_the_published_code_feeds_it(shared):
    # torchvision's own functions on a PIL image, as in DETR's loader; ours through the config
    mapper = instantiate(load("common/data/coco.py").dataloader.test.mapper)
    model = build("models/ms_detr.py")
    inputs, expected, sizes = [], [], []
    for number, file in enumerate(photos(shared)):
        image = Image.open(file).convert("RGB")
        size = detr_size(image.height, image.width, 800, 1333)
        resized = F.resize(image, list(size))
        entry = {"file_name": str(file), "image_id": number}
        entry.update(height=image.height, width=image.width)
        inputs.append(mapper(entry))
        assert (inputs[-1]["height"], inputs[-1]["width"]) == (image.height, image.width)
        np.testing.assert_array_equal(inputs[-1]["image"].permute(1, 2, 0), np.asarray(resized))
        expected.append(
            F.normalize(F.to_tensor(resized), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
        )
        sizes.append(size)
    assert len(set(sizes)) > 1
    images = model.preprocess(inputs)
    assert [tuple(size) for size in images.image_sizes] == sizes
    largest = tuple(max(size[side] for size in sizes) for side in (0, 1))
    assert images.tensor.shape[-2:] == largest  # no more padding than the batch needs
    for found, wanted, (height, width) in zip(images.tensor, expected, sizes):
        torch.testing.assert_close(found[:, :height, :width], wanted, rtol=1e-5, atol=2e-6)
        assert not found[:, height:].any() and not found[:, :, width:].any()


def test_every_resizing_of_the_recipe_is_the_published_one():
    loader = load("common/data/coco.py").dataloader
    train = instantiate(loader.train.mapper.augmentations)
    found = [train[1].aug.augs[0], train[2], *instantiate(loader.test.mapper.augmentations)]
    assert [type(augmentation) for augmentation in found] == [DetrResize] * 3
    assert str(found[0]).startswith("DetrResize(short_edge_length=[400, 500, 600]")


@pytest.mark.parametrize("height, width", [(400, 500), (600, 700), (384, 1200)])
def test_the_crop_of_the_recipe_draws_as_published(height, width):
    # each side uniform from 384 to 600 or the image's, then the place uniform
    train = instantiate(load("common/data/coco.py").dataloader.train.mapper.augmentations)
    crop = train[1].aug.augs[1]
    np.random.seed(0)
    image = np.zeros((height, width, 1), dtype=np.uint8)
    drawn = [crop.get_transform(image) for _ in range(6000)]
    for side, place, length in (("h", "y0", height), ("w", "x0", width)):
        upper = min(length, 600)
        sides = np.array([getattr(transform, side) for transform in drawn])
        assert sides.min() == 384 and sides.max() == upper
        assert abs(sides.mean() - (384 + upper) / 2) < 0.02 * (upper - 384) + 1e-9
        free = np.array([length - getattr(transform, side) for transform in drawn])
        places = np.array([getattr(transform, place) for transform in drawn])
        assert (places >= 0).all() and (places <= free).all()
        if free.any():
            assert abs((places[free > 0] / free[free > 0]).mean() - 0.5) < 0.02


def test_boxes_that_a_crop_leaves_nothing_of_go(shared):
    file = photos(shared)[0]
    height, width = read_image(str(file)).shape[:2]
    mapper = instantiate(load("common/data/coco.py").dataloader.train.mapper)
    mapper.augmentations = T.AugmentationList([T.CropTransform(10, 20, 50, 40)])
    boxes = [[0, 0, 10, 30], [0, 0, 11, 30], [55, 5, 500, 500], [60, 20, 70, 60], [20, 30, 25, 40]]
    entry = {"file_name": str(file), "height": height, "width": width, "annotations": []}
    for number, box in enumerate(boxes):
        entry["annotations"].append({"bbox": box, "bbox_mode": 0, "category_id": number})
    found = mapper(entry)["instances"]
    assert found.gt_classes.tolist() == [1, 2, 4]
    assert found.gt_boxes.tensor.tolist() == [[0, 0, 1, 10], [45, 0, 50, 40], [10, 10, 15, 20]]
