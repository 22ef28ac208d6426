"""An official checkpoint, converted and evaluated on the command line, gives the official results.

The expected detections are computed here, by the published definition, from the image files to
boxes with COCO's category ids: only the network between them is the one under test.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shlex
import subprocess
import sys

import numpy as np
import pytest
import torch
from detectron2.config import instantiate
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ms_detr.config import load_config
from ms_detr.convert import to_official
from ms_detr.parity.rules import canonical, weight

CATEGORIES = [{"id": c["id"], "name": c["name"]} for c in COCO_CATEGORIES if c["isthing"]]
# Name, mode, and size (width, height) before and after resizing. The first two differ by a pixel
# from detectron2's own resizing; the long side of the third ends above its limit.
IMAGES = [
    ("landscape.png", "RGB", (80, 57), (1122, 800)),
    ("portrait.jpg", "RGB", (57, 99), (767, 1332)),
    ("strip.png", "L", (120, 33), (1334, 367)),
]
NAMES = (
    "AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl",
)  # fmt: skip
CONFIG = """
from detectron2.config import LazyConfig
from small_models import shrink

_published = LazyConfig.load({published!r})
dataloader, train = _published.dataloader, _published.train
model = shrink(_published.model, num_classes=80)
model.backbone.stem.norm = "FrozenBN"
for _stage in model.backbone.stages:
    _stage.norm = "FrozenBN"
model.encoder.num_layers = 1
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, repository):
    """The published recipe with a small model, images in COCO's folders, a converted checkpoint."""
    root = tmp_path_factory.mktemp("published")
    published = repository / "configs" / "ms_detr" / "ms_detr_r50_300q_12ep.py"
    (root / "config.py").write_text(CONFIG.format(published=str(published)))
    (root / "coco" / "val2017").mkdir(parents=True)
    (root / "coco" / "annotations").mkdir()
    generator = np.random.default_rng(0)
    for name, mode, (width, height), _ in IMAGES:
        coarse = generator.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((width, height), Image.BICUBIC).convert(mode)
        image.save(root / "coco" / "val2017" / name)
    options = argparse.Namespace(use_ms_detr=True, use_aux_ffn=True, epochs=12, topk_eval=100)
    content = {"model": official_state(root), "optimizer": {}, "epoch": 11, "args": options}
    torch.save(content, root / "official.pth")
    return root


def official_state(root):
    """Rule-made weights for every official key; detections of all classes are equally likely."""
    ours = instantiate(load_config(root / "config.py").model).state_dict()
    state = {
        key: torch.from_numpy(weight(canonical(key, shared_heads=False), value.shape))
        for key, value in to_official(ours).state.items()
    }
    for prefix in ("", "transformer.decoder."):
        bias = torch.zeros(91)
        # No category has id 12 or 83; taken for one, they would be every detection.
        bias[[12, 83]] = 20.0
        state[f"{prefix}class_embed.1.bias"] = bias
    return state


def convert(repository, folder, monkeypatch, capsys):
    """Converts the checkpoint; returns the command that the tool says evaluates it."""
    spec = importlib.util.spec_from_file_location("convert", repository / "tools" / "convert.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.chdir(folder)
    words = ["--from", "ms-detr", "official.pth", "ours.pth", "--config-file", "config.py"]
    assert tool.main(words) == 0
    return shlex.split(capsys.readouterr().out.splitlines()[-1])


def expected_detections(folder):
    """By the definition: resize, normalise, top 100 of (query, class), boxes of the file's size.

    Classes are those of the official head, numbered by category id; ids that COCO does not use
    never score, which is what a head of 80 classes means.
    """
    model = instantiate(load_config(folder / "config.py").model).eval()
    model.load_state_dict(torch.load(folder / "ours.pth", weights_only=True)["model"])
    official = torch.load(folder / "official.pth", weights_only=False)["model"]
    class_weight, class_bias = (official[f"class_embed.1.{x}"].double() for x in ("weight", "bias"))
    unused = sorted(set(range(91)) - {category["id"] for category in CATEGORIES})
    results = []
    for number, (name, _, (width, height), (new_width, new_height)) in enumerate(IMAGES, start=1):
        with Image.open(folder / "coco" / "val2017" / name) as image:
            image = image.convert("RGB").resize((new_width, new_height), Image.BILINEAR)
        pixels = np.asarray(image, dtype=np.float32) / 255
        pixels = (pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        tensor = torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32))
        with torch.no_grad():
            states, _ = model.detect(tensor[None], [(new_height, new_width)])
            boxes = model.predict(states).boxes_BN4[0].double().numpy()
            logits = states.taps["output"][-1][0].double() @ class_weight.T + class_bias
        logits[:, unused] = -torch.inf
        scores = 1 / (1 + np.exp(-logits.numpy().ravel()))
        for pair in np.argsort(-scores)[:100]:
            query, category = divmod(int(pair), 91)
            x, y, w, h = boxes[query]
            box = [(x - w / 2) * width, (y - h / 2) * height, w * width, h * height]
            results.append({"image_id": number, "category_id": category,
                            "bbox": box, "score": scores[pair]})  # fmt: skip
    return results


def write_annotations(folder, results):
    """A COCO json with objects at some of the expected detections, so that AP is not zero."""
    images = [
        {"id": number, "file_name": name, "width": width, "height": height}
        for number, (name, _, (width, height), _) in enumerate(IMAGES, start=1)
    ]
    objects = []
    for result in results[::7]:
        image = images[result["image_id"] - 1]
        x, y, w, h = result["bbox"]
        left, top = max(x, 0.0), max(y, 0.0)
        # Overlaps are no threshold of COCO's, where rounding would decide.
        right = min(x + 0.87 * w, image["width"])
        bottom = min(y + h, image["height"])
        if right > left + 1 and bottom > top + 1:
            box = [left, top, right - left, bottom - top]
            objects.append({"id": len(objects) + 1, "image_id": image["id"], "iscrowd": 0,
                            "category_id": result["category_id"], "bbox": box,
                            "area": box[2] * box[3]})  # fmt: skip
    content = {"info": {}, "images": images, "annotations": objects, "categories": CATEGORIES}
    path = folder / "coco" / "annotations" / "instances_val2017.json"
    path.write_text(json.dumps(content))
    return path


def coco_numbers(annotations, results):
    """COCO's twelve numbers, in percent."""
    truth = COCO(str(annotations))
    evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return 100 * evaluation.stats


def assert_same_detections(found, expected):
    """One by one: category, score to 1e-5 and box to 0.02 pixels; those of near scores may swap."""
    assert len(found) == len(expected)
    for number in {result["image_id"] for result in expected}:
        ours, theirs = (
            [result for result in results if result["image_id"] == number]
            for results in (found, expected)
        )
        numbers = [
            np.array([[r["category_id"] * 1e3, r["score"] / 1e-5, *np.divide(r["bbox"], 0.02)]
                      for r in results]) for results in (ours, theirs)
        ]  # fmt: skip
        distance = np.abs(numbers[0][:, None] - numbers[1][None]).max(-1)
        nearest = distance.argmin(1)
        assert distance[np.arange(len(ours)), nearest].max() < 1
        assert sorted(nearest) == list(range(len(theirs)))
        scores = [result["score"] for result in ours]
        assert scores == sorted(scores, reverse=True)


def test_detections_and_numbers_are_the_official_ones(repository, folder, monkeypatch, capsys):
    command = convert(repository, folder, monkeypatch, capsys)
    expected = expected_detections(folder)
    assert len({result["category_id"] for result in expected}) > 20
    annotations = write_annotations(folder, expected)

    assert command[:2] == ["python", "train_net.py"]
    words = [sys.executable, repository / "train_net.py", "--num-gpus", "0", *command[2:]]
    words += ["train.output_dir=out", "dataloader.evaluator.output_dir=out", "train.device=cpu"]
    paths = [str(repository / "tests"), str(repository / "projects"), os.environ.get("PYTHONPATH")]
    environment = {
        **os.environ,
        "DETECTRON2_DATASETS": str(folder),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }
    words += ["dataloader.test.num_workers=0"]
    done = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr

    found = json.loads((folder / "out" / "coco_instances_results.json").read_text())
    assert_same_detections(found, expected)
    results = json.loads((folder / "out" / "results_eval.json").read_text())["metrics"]["bbox"]
    numbers = coco_numbers(annotations, expected)
    assert numbers[0] > 5
    for name, number in zip(NAMES, numbers):
        assert results[name] == pytest.approx(number, abs=1e-6) or (
            results[name] is None and number == -100
        )
