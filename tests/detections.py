"""Comparison of detections that may come in another order where their scores are all but equal."""

from __future__ import annotations

import importlib.util
import sys

import small_models
import torch
from detectron2.structures import Instances
from shared_data import REPOSITORY


def _tool(name: str):
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


trained_like = _tool("inference_drift").trained_like

FAMILIES = {
    "Deformable": "models/deformable_detr.py",
    "MS-DETR": "models/ms_detr.py",
    "Deformable++": "models/ms_detr_pp.py",
    "one stage": "models/ms_detr_one_stage.py",
    "fixed references": "models/deformable_detr_one_stage_fixed.py",
    "DINO": "models/dino.py",
    "Conditional": "models/conditional_detr_r50.py",
    "DAB": "models/ms_detr_dab_r50.py",
    "DAB-Deformable": "models/dab_deformable_detr_r50.py",
    "masks": "models/ms_detr_mask.py",
    "attention masks": "models/ms_detr_mask_attention.py",
}


def detector(family: str, *, trained: bool = True) -> torch.nn.Module:
    """A small detector of a family in evaluation mode."""
    model = small_models.build(FAMILIES[family])
    return (trained_like(model) if trained else model).eval()


def batch(*sizes: tuple[int, int]) -> list[dict]:
    """Inputs of these sizes, without objects."""
    items = [small_models.item(*size, 1, seed=seed) for seed, size in enumerate(sizes)]
    return [{"image": item["image"]} for item in items]


def detect(model: torch.nn.Module, inputs: list[dict]) -> list[Instances]:
    """Detections of a batch."""
    with torch.no_grad():
        return [output["instances"] for output in model(inputs)]


def differences(found: Instances, wanted: Instances) -> tuple[float, float]:
    """Largest difference of scores, and of boxes in pixels.

    Each wanted detection is compared with the nearest one of its class; those with the least
    scores, which may be pushed out by their equals, are not looked for.
    """
    scores = wanted.scores
    assert len(found) == len(wanted) > 10
    worst_score = (found.scores - scores).abs().max().item()
    worst_box = 0.0
    for index in (scores > scores[-1] + 2e-5).nonzero().flatten():
        same = found[found.pred_classes == wanted.pred_classes[index]]
        # Queries may agree on a box, and a query has a score for every class: both have to fit.
        far = (same.pred_boxes.tensor - wanted.pred_boxes.tensor[index]).abs().amax(1)
        off = (same.scores - scores[index]).abs()
        nearest = (far + 1e3 * off).argmin()
        worst_score = max(worst_score, off[nearest].item())
        worst_box = max(worst_box, far[nearest].item())
        if wanted.has("pred_masks"):
            different = same.pred_masks[nearest] ^ wanted.pred_masks[index]
            assert different.float().mean() < 1e-3
    return worst_score, worst_box
