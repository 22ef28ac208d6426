"""Registration with detectron2, classes of a json, and the data configs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog
from detectron2.structures import BoxMode
from omegaconf import OmegaConf

from ms_detr.config import load_config
from ms_detr.data import (
    CocoJson,
    DatasetError,
    InstanceMaskMapper,
    checked_dataset_dicts,
    count_classes,
    generate_shapes,
    register_coco_json,
    register_shapes,
)

pytestmark = pytest.mark.usefixtures("catalog")


def test_classes_are_numbered_by_ascending_id(small) -> None:
    classes = CocoJson.read(small.json_file)
    assert classes.class_names == ("cat", "dog")
    assert classes.contiguous_ids == {3: 0, 8: 1}
    assert classes.num_classes == count_classes(small.json_file) == 2


def test_a_changed_json_is_read_again(small) -> None:
    assert count_classes(small.json_file) == 2
    small.content["categories"].append({"id": 9, "name": "bird"})
    small.save()
    import os

    os.utime(small.json_file, (1, 1))
    assert count_classes(small.json_file) == 3


def test_registration_agrees_with_detectron2(small) -> None:
    name = register_coco_json("small", small.json_file, small.root)
    ours = MetadataCatalog.get(name).thing_dataset_id_to_contiguous_id
    dicts = checked_dataset_dicts(name)  # detectron2's loader sets the same metadata, or fails
    assert MetadataCatalog.get(name).thing_dataset_id_to_contiguous_id == ours
    assert [len(entry["annotations"]) for entry in dicts] == [2, 1, 0]
    assert [a["category_id"] for a in dicts[0]["annotations"]] == [0, 1]


def test_registering_again(small) -> None:
    assert register_coco_json("small", small.json_file, small.root) == "small"
    assert register_coco_json("small", small.json_file, small.root) == "small"
    (small.root / "other").mkdir()
    with pytest.raises(DatasetError, match="registered already with image_root"):
        register_coco_json("small", small.json_file, small.root / "other")


def test_paths_that_are_not_there(small) -> None:
    with pytest.raises(DatasetError, match="dataset.train_json is not given"):
        register_coco_json("small", None, small.root)
    with pytest.raises(DatasetError, match="dataset.val_images is not given"):
        register_coco_json("small", small.json_file, "", option="val")
    with pytest.raises(DatasetError, match="image folder does not exist"):
        register_coco_json("small", small.json_file, small.root / "nowhere")
    with pytest.raises(DatasetError, match=r"mend: correct dataset\.val_images "):
        register_coco_json("small", small.json_file, small.root / "nowhere", option="val")
    with pytest.raises(DatasetError, match="image folder is a file"):
        register_coco_json("small", small.json_file, small.json_file)
    with pytest.raises(DatasetError, match="this is a folder, not an annotation file"):
        register_coco_json("small", small.root, small.root)
    with pytest.raises(DatasetError, match="annotation file does not exist"):
        register_coco_json("small", small.root / "nowhere.json", small.root)
    with pytest.raises(DatasetError, match=r"make_shapes\.py"):
        register_shapes(small.root, "train")
    assert "small" not in DatasetCatalog.list()


def test_other_categories_in_val_are_named(small, tmp_path: Path) -> None:
    train = small.root / "train.json"
    train.write_text(small.json_file.read_text())
    small.content["categories"] = [{"id": 3, "name": "dog"}, {"id": 9, "name": "cow"}]
    small.content["annotations"] = []
    small.save()
    with pytest.raises(DatasetError) as caught:
        register_coco_json("val", small.json_file, small.root, same_classes_as=train)
    message = str(caught.value)
    assert str(train) in message and str(small.json_file) in message
    assert "id 3: 'dog' here, 'cat' in the other" in message
    assert "id 8: 'absent' here, 'dog' in the other" in message
    assert "id 9: 'cow' here, 'absent' in the other" in message
    register_coco_json("same", train, small.root, same_classes_as=train)


def test_bad_data_stops_the_loader(small) -> None:
    register_coco_json("small", small.json_file, small.root)
    (small.root / "a.jpg").unlink()
    with pytest.raises(DatasetError, match=r"image 10 .*a\.jpg.* correct dataset\.train_images"):
        checked_dataset_dicts("small")
    register_coco_json("other", small.json_file, small.root, option="val")
    with pytest.raises(DatasetError, match=r"image 10 .*a\.jpg.* correct dataset\.val_images"):
        checked_dataset_dicts("other", evaluation=True)
    assert len(checked_dataset_dicts("small", check_files=False)) == 3


def test_boxes_let_through_as_degenerate_do_not_reach_the_model(small) -> None:
    small.content["annotations"][0]["bbox"] = [5.0, 5.0, 20.0, 0.0]
    small.content["annotations"].append(
        dict(small.content["annotations"][0], id=9, bbox=[5.0, 5.0, 8.0, 8.0])
    )
    small.save()
    register_coco_json("small", small.json_file, small.root)
    dicts = checked_dataset_dicts("small", degenerate="skip")
    mapper = DatasetMapper(is_train=True, augmentations=[], image_format="RGB")
    boxes = mapper(dicts[0])["instances"].gt_boxes.tensor
    assert torch.equal(boxes, torch.tensor([[5.0, 5.0, 13.0, 13.0]]))  # nor does the crowd


# the configs


@pytest.fixture
def configs(repository: Path) -> Path:
    return repository / "configs" / "common" / "data"


def test_config_of_the_shapes(configs: Path, tmp_path: Path) -> None:
    generate_shapes(tmp_path, num_train=8, num_val=3)
    config = LazyConfig.load(str(configs / "shapes.py"))
    config = LazyConfig.apply_overrides(config, [f"dataset.root={tmp_path}"])
    assert LazyConfig.load(str(configs / "shapes.py")).dataset.root == "output/demo/data"
    batch = next(instantiate(config.dataloader.train).start(seed=0))
    assert len(batch) == 8
    assert all(item["image"].shape == (3, 128, 128) for item in batch)
    evaluator = instantiate(config.dataloader.evaluator)  # before the loader, on purpose
    assert len(instantiate(config.dataloader.test)) == 3
    evaluator.reset()


def test_config_of_a_custom_set(configs: Path, small) -> None:
    config = LazyConfig.load(str(configs / "custom.py"))
    with pytest.raises(DatasetError, match="dataset.train_json is not given"):
        instantiate(config.dataloader.train)
    config = LazyConfig.apply_overrides(
        config,
        [
            f"dataset.train_json={small.json_file}",
            f"dataset.train_images={small.root}",
            f"dataset.val_json={small.json_file}",
            f"dataset.val_images={small.root}",
            "dataloader.train.total_batch_size=2",
            "dataloader.train.num_workers=0",
            "dataloader.test.num_workers=0",
        ],
    )
    batch = next(instantiate(config.dataloader.train).start(seed=0))
    assert len(batch) == 2
    sizes = [min(item["image"].shape[1:]) for item in batch]
    assert all(side <= 800 for side in sizes)
    assert [item["image_id"] for item in next(iter(instantiate(config.dataloader.test)))] == [10]


def test_the_mend_of_a_zero_box_is_an_override_that_works(configs: Path, small) -> None:
    small.content["annotations"][0]["bbox"] = [5.0, 5.0, 20.0, 0.0]
    overrides = [f"dataset.{split}_json={small.save()}" for split in ("train", "val")]
    overrides += [f"dataset.{split}_images={small.root}" for split in ("train", "val")]
    for split in ("train", "test"):
        config = load_config(configs / "custom.py", overrides)
        with pytest.raises(DatasetError, match="zero width or height") as caught:
            instantiate(config.dataloader[split].dataset)
        mend = str(caught.value).split()[-1]
        config = load_config(configs / "custom.py", [*overrides, mend])
        assert len(instantiate(config.dataloader[split].dataset)) == 3


def test_a_missing_picture_of_the_shapes_names_the_root(configs: Path, tmp_path: Path) -> None:
    made = generate_shapes(tmp_path, num_train=2, num_val=1)
    name = register_shapes(tmp_path, "train", "broken_shapes")
    next(made.image_root("train").glob("*.jpg")).unlink()
    with pytest.raises(DatasetError, match=r"mend: correct dataset\.root or"):
        checked_dataset_dicts(name)


def test_the_key_of_the_classes_in_the_config_exists(configs: Path) -> None:
    text = (configs / "custom.py").read_text()
    key = re.search(r"`(model\S*) = L\(count_classes\)", text)
    config = load_config(configs.parents[1] / "custom" / "finetune.py")
    assert key and OmegaConf.is_config(config.model.heads)
    node = OmegaConf.to_container(config, resolve=False)
    for part in key[1].split("."):
        node = node[part]
    assert node["json_file"] == "${dataset.train_json}"


def test_config_of_coco_is_the_published_recipe(configs: Path) -> None:
    config = LazyConfig.load(str(configs / "coco.py")).dataloader
    assert config.train.total_batch_size == 16
    assert config.train.dataset.names == "coco_2017_train"
    assert config.train.mapper.image_format == config.test.mapper.image_format == "RGB"
    flip, crop, resize = instantiate(config.train.mapper.augmentations)
    assert (flip.prob, crop.prob) == (0.5, 0.5)
    assert list(crop.aug.augs[0].short_edge_length) == [400, 500, 600]
    assert list(crop.aug.augs[1].crop_size) == [384, 600]
    assert list(resize.short_edge_length) == [480 + 32 * step for step in range(11)]
    assert resize.max_size == 1333
    (last,) = instantiate(config.test.mapper.augmentations)
    assert set(last.short_edge_length) == {800} and last.max_size == 1333


def test_the_published_augmentation_gives_sound_samples(configs: Path, small) -> None:
    config = LazyConfig.load(str(configs / "coco.py")).dataloader
    mapper = instantiate(config.train.mapper)
    np.random.seed(0)
    entry = {
        "file_name": str(small.root / "a.jpg"),
        "width": 60,
        "height": 40,
        "image_id": 10,
        "annotations": [
            {"bbox": [5, 5, 50, 30], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0, "iscrowd": 0}
        ],
    }
    short, ratios = set(), set()
    for _ in range(40):
        sample = mapper(entry)
        height, width = sample["image"].shape[1:]
        boxes = sample["instances"].gt_boxes.tensor
        assert max(height, width) <= 1333 and min(height, width) <= 800
        assert (boxes >= 0).all() and (boxes <= torch.tensor([width, height] * 2)).all()
        short.add(min(height, width))
        ratios.add(round(width / height, 1))
    assert len(short) > 5  # many sizes
    assert len(ratios) > 3  # crops change the shape, the original is 1.5


def test_boxes_of_masks_and_objects_without_masks(small) -> None:
    """A json without boxes and with an object without a mask, as a loader of masks sees it."""
    for annotation in small.content["annotations"][:2]:
        del annotation["bbox"]
    small.save()
    register_coco_json("small", small.json_file, small.root)
    with pytest.raises(DatasetError, match=r"annotation 3 \(image 11, b\.png\): has no mask"):
        checked_dataset_dicts("small", maskless="error")
    first, second, third = checked_dataset_dicts("small", maskless="skip")
    assert [entry["bbox"] for entry in first["annotations"]] == [[5, 5, 20, 10], [0, 0, 60, 40]]
    assert {entry["bbox_mode"] for entry in first["annotations"]} == {BoxMode.XYWH_ABS}
    assert second["annotations"] == third["annotations"] == []
    kept = checked_dataset_dicts("small")
    assert [len(entry["annotations"]) for entry in kept] == [2, 1, 0]


@pytest.mark.parametrize("name", ["coco_mask", "lsj", "shapes_mask", "custom_mask", "lvis"])
def test_mask_data_configs_are_for_masks(repository, name: str) -> None:
    loader = LazyConfig.load(str(repository / f"configs/common/data/{name}.py")).dataloader
    mapper = instantiate(loader.train.mapper)
    assert isinstance(mapper, InstanceMaskMapper)
    crops = name in ("coco_mask", "lsj", "custom_mask", "lvis")
    assert mapper.recompute_boxes == crops and len(mapper.augmentations.augs) >= 1
    assert loader.train.dataset.maskless in ("error", "skip")
    assert loader.test.dataset.maskless == "error"
    assert list(loader.evaluator.tasks) == ["bbox", "segm"]
    assert loader.test.mapper.image_format == "RGB"


def test_generated_shapes_reach_the_model_with_masks(repository, tmp_path: Path) -> None:
    root = generate_shapes(tmp_path, num_train=6, num_val=2).root
    cfg = LazyConfig.load(str(repository / "configs/common/data/shapes_mask.py"))
    cfg.dataset.root = str(root)
    batch = next(instantiate(cfg.dataloader.train).start(seed=0))
    assert len(batch) == 8
    for item in batch:
        instances = item["instances"]
        assert instances.gt_masks.tensor.shape == (len(instances), 128, 128)
        assert instances.gt_masks.tensor.dtype == torch.bool
        # boxes are those of the annotations, finer than pixels
        tight = instances.gt_masks.get_bounding_boxes().tensor
        assert torch.allclose(instances.gt_boxes.tensor, tight, atol=1.5)
