"""Matching problems recorded from the official code: one image each, both assigners."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from ..assigners import (
    FocalCost,
    GIoUCost,
    HungarianAssigner,
    L1Cost,
    MatchCosts,
    ReleasedTopKAssigner,
)
from ..structures import Assignment, LayerPredictions, Targets
from .case import CaseError, read_json
from .compare import Row, relative, share

FILE = "matchers.json"
PARTS = ("open", "held")


def compare_matchers(folder: Path, generator: Path) -> list[Row]:
    """Pairs and costs of all problems of a folder.

    Args:
        folder: holds the recorded results.
        generator: a Python file with ``matcher_problem(part, index)``, which makes the inputs; it
            is run.

    Raises:
        CaseError: the generator makes other problems than the recorded ones.
    """
    recorded = read_json(folder / FILE)
    if not recorded:
        raise CaseError(f"{folder / FILE} holds no problem")
    problems = _problems(recorded, _load(generator), generator)
    wrong_pairs = wrong_top_k = 0
    cost = score = 0.0
    for record, problem in zip(recorded, problems):
        predictions, targets = _inputs(problem)
        costs = MatchCosts(
            focal=FocalCost(problem["cost_class"]),
            l1=L1Cost(problem["cost_bbox"]),
            giou=GIoUCost(problem["cost_giou"]),
        )
        found = HungarianAssigner(costs=costs)(predictions, targets)
        price_GN = costs(predictions, targets)
        total = price_GN[found.target_P, found.query_P].sum().item()
        cost = max(cost, relative(total, record["o2o_cost"]))
        if record["o2o_unique"]:
            wrong_pairs += _pairs(found) != sorted(map(tuple, record["o2o"]))
        if not record["o2m_deterministic"]:
            continue  # more positives than the cap: the official code draws some at random
        assigner = ReleasedTopKAssigner(k=problem["k"], threshold=problem["threshold"])
        found = assigner(predictions, targets)
        scores = sorted(_scores(assigner, predictions, targets, found).tolist())
        # Of exact copies of a query any may be taken; the scores are the same.
        expected = sorted(record["o2m_scores"])
        if len(scores) != len(expected):
            score = math.inf
        else:
            score = max([score, *(share(abs(a - b), 1.0) for a, b in zip(scores, expected))])
        if record["o2m_unique"] or problem["kind"] == "duplicate_gt":
            wrong_top_k += _pairs(found) != sorted(map(tuple, record["o2m"]))
    name = f"{len(recorded)} problems"
    return [
        Row(name, "f64", "Hungarian: unique optima", wrong_pairs, 0, "wrong"),
        Row(name, "f64", "Hungarian: total cost", cost, 1e-9, "relative"),
        Row(name, "f64", "one-to-many: pairs", wrong_top_k, 0, "wrong"),
        # Recorded with nine decimals.
        Row(name, "f64", "one-to-many: scores of the pairs", score, 1e-9, "absolute"),
    ]


def _load(generator: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("golden_generator", generator)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _problems(recorded: list[dict], module: ModuleType, generator: Path) -> list[dict]:
    """Inputs of the recorded problems; which part of them was recorded is found by comparing."""
    for part in PARTS:
        problems = [module.matcher_problem(part, record["i"]) for record in recorded]
        if all(map(_fits, recorded, problems)):
            return problems
    raise CaseError(f"{generator} makes other matching problems than the recorded ones")


def _fits(record: dict, problem: dict) -> bool:
    return (record["nq"], record["ngt"], record["kind"]) == (
        len(problem["logits"]),
        len(problem["labels"]),
        problem["kind"],
    )


def _inputs(problem: dict) -> tuple[LayerPredictions, Targets]:
    logits, boxes, labels, objects = (
        torch.from_numpy(problem[name]) for name in ("logits", "boxes", "labels", "gt")
    )
    count = torch.tensor(float(max(len(labels), 1)), dtype=boxes.dtype)
    targets = Targets(labels, objects, (len(labels),), count)
    return LayerPredictions(logits[None], boxes[None]), targets


def _scores(
    assigner: ReleasedTopKAssigner,
    predictions: LayerPredictions,
    targets: Targets,
    found: Assignment,
) -> Tensor:
    score_GN = assigner.scores(predictions, targets)
    return score_GN[found.target_P, found.query_P][found.valid_P]


def _pairs(found: Assignment) -> list[tuple[int, int]]:
    valid = found.valid_P
    return sorted(zip(found.query_P[valid].tolist(), found.target_P[valid].tolist()))
