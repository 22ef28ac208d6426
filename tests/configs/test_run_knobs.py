"""Every knob of a recipe around the model changes something when it is turned: rate, data, run.

Rate and optimizer are looked at as they are built, data as it comes out of the loaders, a run by
what it leaves in its folder. Knobs that cannot show on one CPU process stand in EXCEPT, with why.
"""

from __future__ import annotations

import copy
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import default_argument_parser
from knobs import Built, Other, get, knobs, put, turned
from PIL import Image
from small_models import load, shrink

from ms_detr.data import register_coco_json
from ms_detr.data.errors import DatasetError
from ms_detr.engine import do_train, setup
from ms_detr.errors import ConfigError

RECIPE = load("ms_detr/ms_detr_r50_300q_12ep.py")
TINY = Path(__file__).resolve().parents[1] / "engine"

EXCEPT = {
    "train.ddp.broadcast_buffers": "of DistributedDataParallel, which one process does without",
    "train.ddp.find_unused_parameters": "likewise",
    "train.ddp.fp16_compression": "likewise",
    "train.accumulate": "changes memory, not numbers; tests/reliability/test_accumulate.py",
    "train.check_data": "leaves out a check; see tests/engine/test_check_data.py",
    "dataloader.train.num_workers": "who reads the images, not which",
    "dataloader.test.num_workers": "likewise",
}


def of(section: str) -> list[str]:
    return [key for key in knobs(RECIPE) if key.startswith(f"{section}.") and key not in EXCEPT]


def test_every_knob_has_a_test():
    sections = ("model", "optimizer", "lr_multiplier", "train", "dataloader")
    assert set(RECIPE) == set(sections) and EXCEPT.keys() <= set(knobs(RECIPE))


def changed(cfg, key: str, value):
    """A copy with one knob turned; a class is replaced by one that reports itself."""
    cfg = copy.deepcopy(cfg)
    put(cfg, key, Other if key.endswith("_target_") else value)
    return cfg


# Rate and optimizer: on a one-stage model, which has reference_points.


def groups(cfg) -> list:
    cfg = copy.deepcopy(cfg)
    cfg.optimizer.params.model = optimized_model()
    optimizer = instantiate(cfg.optimizer)
    keys = ("lr", "betas", "weight_decay", "fused")
    return [
        [tuple(map(id, g["params"])), *(g[key] for key in keys)] for g in optimizer.param_groups
    ]


@cache
def optimized_model():
    return instantiate(shrink(load("models/ms_detr_one_stage.py").model))


def curve(cfg) -> list[float]:
    scheduler = instantiate(cfg.lr_multiplier)
    return [scheduler(step / 200) for step in range(200)]


@pytest.mark.parametrize("key", of("optimizer") + of("lr_multiplier"))
def test_knob_of_the_rate(key):
    look = groups if key.startswith("optimizer") else curve
    if key.endswith("_target_"):
        with pytest.raises(Built):
            look(changed(RECIPE, key, None))
        return
    value = get(RECIPE, key)
    if key.startswith(("optimizer.betas", "lr_multiplier.milestones")):
        value = value / 2  # betas stay below 1, milestones inside the schedule
    elif key == "optimizer.fused":
        value = None
    else:
        value = 2 * value
    assert look(changed(RECIPE, key, value)) != look(RECIPE), f"{key} changes nothing"


# Data: a few small images in the place of COCO, all sizes of the recipe divided by ten.

DATA_SETS = {  # name: sizes of the images
    "knobs_train": [(40, 60), (60, 40), (20, 60), (50, 50)],
    "knobs_val": [(30, 40), (20, 60)],
    "knobs_flat": [(40, 60), (40, 60)],  # the first one's object has no height
    "knobs_no_area": [(30, 40)],
}


@pytest.fixture(scope="module")
def data_sets(tmp_path_factory):
    root = tmp_path_factory.mktemp("knobs")
    generator = np.random.default_rng(0)
    for name, sizes in DATA_SETS.items():
        images, annotations = [], []
        for number, (height, width) in enumerate(sizes, 1):
            file = f"{name}_{number}.png"
            pixels = generator.integers(0, 255, (height, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / file)
            images.append({"id": number, "file_name": file, "width": width, "height": height})
            flat = name == "knobs_flat" and number == 1
            x, y, w, h = 3, 4, width // 2, 0 if flat else height // 2
            corners = [x, y, x + w, y, x + w, y + h]
            annotations.append(
                {"id": number, "image_id": number, "category_id": 1, "bbox": [x, y, w, h],
                 "area": w * h, "iscrowd": 0, "segmentation": [corners]}
            )  # fmt: skip
            if name == "knobs_no_area":
                del annotations[-1]["area"]
        categories = [{"id": 1, "name": "thing"}]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (root / f"{name}.json").write_text(json.dumps(content))
        register_coco_json(name, root / f"{name}.json", root)
    yield
    for name in DATA_SETS:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


@cache
def small_data():
    cfg = copy.deepcopy(RECIPE)
    for key in knobs(cfg):
        parts = key.split(".")
        if "short_edge_length" in parts or "crop_size" in parts or "max_size" in parts:
            put(cfg, key, get(cfg, key) // 10)
    for split in ("train", "test"):
        cfg.dataloader[split].num_workers = 0
    cfg.dataloader.train.dataset.names = "knobs_train"
    cfg.dataloader.test.dataset.names = "knobs_val"
    cfg.dataloader.train.total_batch_size = 2
    return cfg


def batches(cfg, split: str, count: int) -> list:
    """What a loader yields, as plain values."""
    loader = instantiate(cfg.dataloader[split])
    found = loader.start(seed=0) if split == "train" else iter(loader)
    return [[plain(item) for item in batch] for batch, _ in zip(found, range(count))]


def plain(item: dict) -> dict:
    seen = {"image": item["image"].numpy().tobytes(), "file": item["file_name"]}
    if "instances" in item:
        fields = item["instances"].get_fields()
        seen |= {"fields": sorted(fields), "boxes": fields["gt_boxes"].tensor.tolist()}
    return seen


def data_seen(cfg, key: str):
    """What the loader of a knob yields; the name of the error if it refuses the data."""
    try:
        if key.startswith("dataloader.evaluator"):
            return sorted(instantiate(cfg.dataloader.evaluator)._coco_api.imgs.items())
        train = key.startswith("dataloader.train")
        return batches(cfg, "train", 30) if train else batches(cfg, "test", 2)
    except DatasetError:
        return "refused"


def data_value(key: str, value):
    chosen = {
        "dataloader.train.dataset.names": "knobs_val",
        "dataloader.train.dataset.degenerate": "error",
        "dataloader.test.dataset.names": "knobs_train",
        "dataloader.evaluator.dataset_name": "knobs_train",
    }.get(key)
    if key.endswith("image_format"):
        return "BGR"
    if key.endswith("crop_type"):
        return "absolute"
    if chosen is not None:
        return chosen
    return value + 7 if isinstance(value, int) and value >= 20 else turned(value)


@pytest.mark.usefixtures("data_sets")
@pytest.mark.parametrize("key", of("dataloader"))
def test_knob_of_the_data(key):
    cfg = copy.deepcopy(small_data())
    if key.endswith("degenerate"):
        cfg.dataloader.train.dataset.names = "knobs_flat"
    if key.endswith("dataset.evaluation"):
        cfg.dataloader.test.dataset.names = "knobs_no_area"
    if key.endswith("use_instance_mask"):
        del cfg.dataloader.train.mapper.augmentations[1]  # polygons are cropped with shapely only
    before = data_seen(cfg, key)
    other = changed(cfg, key, None if key.endswith("_target_") else data_value(key, get(cfg, key)))
    if key.endswith("_target_"):
        with pytest.raises(Built):
            data_seen(other, key)
    else:
        assert data_seen(other, key) != before, f"{key} changes nothing"


# A run: a tiny detector with the recipe's train section, six iterations.

BASE = {
    "train.max_iter": "6",
    "train.eval_period": "4",
    "train.log_period": "2",
    "train.checkpointer.period": "1",
}
RUN = {
    "train.output_dir": {"train.output_dir": "another"},
    "train.init_checkpoint": {"train.init_checkpoint": "start.pth"},
    "train.max_iter": {"train.max_iter": "5"},
    "train.amp.enabled": {"train.amp.enabled": "True"},
    "train.amp.dtype": {"train.amp.enabled": "True", "train.amp.dtype": "fp16"},
    "train.clip_grad.max_norm": {"train.clip_grad.max_norm": "0.001"},
    "train.checkpointer.period": {"train.checkpointer.period": "2"},
    "train.checkpointer.max_to_keep": {"train.checkpointer.max_to_keep": "1"},
    "train.checkpointer.best": {"train.checkpointer.best": "null"},
    "train.eval_period": {"train.eval_period": "2"},
    "train.log_period": {"train.log_period": "3"},
    "train.profile": {"train.profile": "True"},
    "train.device": {"train.device": "no-such-device"},
    "train.seed": {"train.seed": "43"},
    "train.cudnn_benchmark": {"train.cudnn_benchmark": "True"},
    "train.deterministic": {"train.deterministic": "True"},
    "train.ema.enabled": {"train.ema.enabled": "True"},
    "train.ema.decay": {"train.ema.enabled": "True", "train.ema.decay": "0.1"},
    "train.ema.warmup": {"train.ema.enabled": "True", "train.ema.warmup": "0"},
}


def run(folder: Path, scenes: Path, values: dict[str, str]) -> dict:
    """Trains in a folder; what is left there, without times."""
    folder.mkdir()
    values = {"train.output_dir": "out", "dataset.root": str(scenes)} | BASE | values
    given = [f"{key}={value}" for key, value in values.items()]
    arguments = ["--config-file", str(TINY / "tiny_config.py"), *given]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.save({"model": {"boxes.bias": torch.ones(4)}}, folder / "start.pth")
        try:
            do_train(setup(default_argument_parser().parse_args(arguments)))
        except ConfigError:
            return {"refused": True}
        benchmark, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, False
        deterministic = torch.are_deterministic_algorithms_enabled()
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.deterministic = False
        files = {
            str(path.relative_to(folder)): path
            for path in folder.rglob("*")
            if path.suffix in (".pth", ".json")
        }
        names = ("model_final.pth", "model_final_ema.pth")
        final, *average = (path for name in names for path in files.values() if path.name == name)
        lines = final.with_name("metrics.json").read_text().splitlines()
        return {
            "files": sorted(files),
            "weights": [
                [value.tolist() for value in torch.load(path, weights_only=True)["model"].values()]
                for path in (final, *average)
            ],
            "log": [sorted(json.loads(line)) for line in lines],
            "benchmark": benchmark,
            "deterministic": deterministic,
        }


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(TINY))
        from tiny_detector import write_scenes

        folder = tmp_path_factory.mktemp("scenes")
        write_scenes(folder)
        yield folder
    if "tiny" in DatasetCatalog.list():
        DatasetCatalog.remove("tiny")
        MetadataCatalog.remove("tiny")


@pytest.fixture(scope="module")
def usual(scenes, tmp_path_factory):
    runs = [run(tmp_path_factory.mktemp("usual") / name, scenes, {}) for name in "ab"]
    assert runs[0] == runs[1]  # or else every knob would seem to do something
    return runs[0]


@pytest.mark.parametrize("key", of("train"))
def test_knob_of_the_run(key, usual, scenes, tmp_path):
    left = run(tmp_path / "run", scenes, RUN[key])
    switch = f"{key.rpartition('.')[0]}.enabled"
    if key != switch and switch in RUN:
        usual = run(tmp_path / "usual", scenes, RUN[switch])
    assert left != usual, f"{key} changes nothing"
    assert "refused" not in left or key == "train.device"
