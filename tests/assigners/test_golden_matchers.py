"""Both assigners against pairs recorded from the official code."""

import importlib.util
import json

import pytest
import torch

from ms_detr.assigners import (
    FocalCost,
    GIoUCost,
    HungarianAssigner,
    L1Cost,
    MatchCosts,
    ReleasedTopKAssigner,
)
from ms_detr.structures import LayerPredictions, Targets


@pytest.fixture(scope="module")
def golden(shared):
    folder = shared / "golden"
    if not (folder / "matchers.json").is_file():
        pytest.skip(f"no matcher problems at {folder}")
    spec = importlib.util.spec_from_file_location("goldengen", folder / "goldengen.py")
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    recorded = json.loads((folder / "matchers.json").read_text())
    cases = []
    for index, record in enumerate(recorded):
        problem = generator.matcher_problem("open", record.get("i", index))
        tensors = [torch.from_numpy(problem[k]) for k in ("logits", "boxes", "labels", "gt")]
        cases.append((record, problem, tensors))
    assert len(cases) > 100
    return cases


def sorted_pairs(query_P, target_P):
    return sorted(map(list, zip(query_P.tolist(), target_P.tolist())))


def test_hungarian(golden):
    for record, problem, tensors in golden:
        costs = MatchCosts(
            focal=FocalCost(problem["cost_class"]),
            l1=L1Cost(problem["cost_bbox"]),
            giou=GIoUCost(problem["cost_giou"]),
        )
        query_P, target_P = HungarianAssigner(costs=costs).match(*tensors)
        total = costs(*tensors)[query_P, target_P].sum().item()
        assert total == pytest.approx(record["o2o_cost"], rel=1e-9, abs=1e-9), record["i"]
        if record["o2o_unique"]:
            assert sorted_pairs(query_P, target_P) == sorted(record["o2o"]), record["i"]


def test_one_to_many(golden):
    compared = 0
    for record, problem, (logits, boxes, labels, truth) in golden:
        if not record["o2m_deterministic"]:
            continue  # more positives than the cap: the official code draws a random part
        assigner = ReleasedTopKAssigner(k=problem["k"], threshold=problem["threshold"])
        predictions = LayerPredictions(logits[None], boxes[None])
        number = torch.tensor(float(max(len(labels), 1)))
        targets = Targets(labels, truth, (len(labels),), number)
        found = assigner(predictions, targets)
        query_P, target_P = found.query_P[found.valid_P], found.target_P[found.valid_P]
        scores = assigner.scores(predictions, targets)[target_P, query_P]
        # among exact copies of a query the choice is free, the scores are not
        assert sorted(scores.tolist()) == pytest.approx(sorted(record["o2m_scores"]), rel=1e-7)
        if record["o2m_unique"] or problem["kind"] == "duplicate_gt":
            assert sorted_pairs(query_P, target_P) == sorted(record["o2m"]), record["i"]
            compared += 1
    assert compared > 100
