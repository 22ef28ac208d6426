"""True masks as predictions score 100."""

from __future__ import annotations

import json

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from pycocotools import mask as mask_util
from small_models import item

from ms_detr.data import register_coco_json
from ms_detr.evaluation import CocoEvaluator
from ms_detr.heads import TopKDetections
from ms_detr.structures import LayerPredictions, Targets
from ms_detr.structures.masks import BatchMasks

BATCH = [item(64, 80, 3, seed=1), item(48, 60, 2, seed=2)]


def coco_json(items: list[dict]) -> dict:
    """Boxes and masks of training inputs as COCO has them; image ids count from 1."""
    images, annotations = [], []
    for number, image in enumerate(items, 1):
        height, width = image["image"].shape[1:]
        truth = image["instances"]
        images.append({"id": number, "file_name": "x.png", "height": height, "width": width})
        for box, label, mask in zip(truth.gt_boxes.tensor, truth.gt_classes, truth.gt_masks.tensor):
            x0, y0, x1, y1 = box.tolist()
            code = mask_util.encode(mask.numpy().astype("uint8", order="F"))
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "category_id": int(label),
                 "bbox": [x0, y0, x1 - x0, y1 - y0], "area": int(mask.sum()), "iscrowd": 0,
                 "segmentation": {"size": code["size"], "counts": code["counts"].decode()}}
            )  # fmt: skip
    categories = [{"id": index, "name": str(index)} for index in range(5)]
    return {"images": images, "annotations": annotations, "categories": categories}


def perfect(items: list[dict]) -> LayerPredictions:
    """One query for every object of the fullest image, with the true class, box and mask."""
    queries = max(len(image["instances"]) for image in items)
    height, width = (max(image["image"].shape[side] for image in items) for side in (1, 2))
    logits = torch.full((len(items), queries, 5), -10.0)
    boxes = torch.full((len(items), queries, 4), 0.5)
    maps = torch.full((len(items), queries, height, width), -1.0)
    extents = []
    for index, image in enumerate(items):
        truth = image["instances"]
        h, w = truth.image_size
        extents.append([w / width, h / height])
        objects = torch.arange(len(truth))
        logits[index, objects, truth.gt_classes] = 5.0
        targets = Targets.from_instances([truth])
        boxes[index, objects] = targets.boxes_G4
        maps[index, objects, :h, :w] = 2.0 * truth.gt_masks.tensor - 1
    numbers = torch.arange(queries).float().expand(len(items), -1)[..., None]
    batch = BatchMasks(
        lambda pixels, s, i, _: pixels[i, s[:, 0].long()], maps, torch.tensor(extents)
    )
    return LayerPredictions(logits, boxes, batch.of_queries(numbers, boxes))


def test_perfect_masks_score_100(tmp_path):
    """True masks as predictions pass through detections and evaluation unharmed."""
    (tmp_path / "masks.json").write_text(json.dumps(coco_json(BATCH)))
    sizes = [image["instances"].image_size for image in BATCH]
    found = TopKDetections(3)(perfect(BATCH), sizes)
    assert torch.equal(
        found[0].pred_masks[found[0].scores.argsort()].sum((1, 2)).sort()[0],
        BATCH[0]["instances"].gt_masks.tensor.sum((1, 2)).sort()[0],
    )
    name = register_coco_json("perfect_masks", tmp_path / "masks.json", tmp_path)
    try:
        evaluator = CocoEvaluator(name, tasks=("bbox", "segm"), distributed=False)
        evaluator.reset()
        for number, instances in enumerate(found, 1):
            evaluator.process([{"image_id": number}], [{"instances": instances}])
        results = evaluator.evaluate()
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    assert results["segm"]["AP"] == pytest.approx(100)
    assert results["bbox"]["AP"] == pytest.approx(100)
