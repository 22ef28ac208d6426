"""Every recorded case of the official code, in both precisions, and that a difference is seen."""

from __future__ import annotations

import json

import pytest
import torch
from shared_data import REPOSITORY, shared_folder

from ms_detr.parity import GoldenCase, ParityRun, compare_matchers, find_cases, table

CONFIGS = REPOSITORY / "configs"


def cases():
    folder = shared_folder()
    found = find_cases(folder / "golden") if folder and (folder / "golden").is_dir() else []
    if not found:
        reason = "no recorded cases beside the repository"
        return [pytest.param(None, marks=pytest.mark.skip(reason=reason))]
    return [pytest.param(path, id=path.stem) for path in found]


@pytest.fixture(scope="module", params=cases())
def case(request):
    return GoldenCase.load(request.param)


@pytest.fixture(scope="module")
def exact(case):
    return ParityRun(case, CONFIGS, "f64")


def rows_over(rows):
    rows = list(rows)
    assert rows
    return [row for row in rows if not row.passed]


def test_float64(exact):
    over = rows_over(exact.rows())
    assert not over, "\n" + table(over)
    assert not exact.unread() and not exact.missing()


def test_float32(case):
    over = rows_over(ParityRun(case, CONFIGS, "f32").rows())
    assert not over, "\n" + table(over)


def test_small_differences_are_seen(exact):
    """Each change is undone before the next; what is named must be over its tolerance."""
    model = exact.model
    one_to_one, mixed = (model.supervisions[name] for name in ("one_to_one", "mixed"))
    bias = model.heads.class_heads[2].bias
    price = one_to_one.assigner.costs.costs["class"]
    for compare, owner, name, value, wanted in (
        (losses, mixed.assigner, "k", 2, {"T1 mixed pairs", "T1 total"}),
        (losses, mixed.assigner, "alpha", 0.9, {"T1 mixed pairs"}),
        (losses, mixed.terms.terms["giou"], "weight", 2.0 + 1e-6, {"T1 total"}),
        (losses, price, "weight", 0.0, {"T1 one_to_one pairs"}),
        (losses, bias, "data", bias.data + 1e-7, {"T1 losses class (13)"}),
        (ParityRun.predictions, bias, "data", bias.data + 1e-7, {"one_to_one logits, every 10th"}),
        (ParityRun.predictions, bias, "data", bias.data * float("nan"), {"mixed logits, all"}),
        (ParityRun.detections, model.postprocess, "num_detections", 99, {"detections: classes"}),
    ):
        before = getattr(owner, name)
        setattr(owner, name, value)
        try:
            over = {row.quantity for row in rows_over(compare(exact))}
        finally:
            setattr(owner, name, before)
        assert wanted <= over, (name, over)


def losses(run):
    """Pairs and losses of one set of targets; gradients, which come next, take longest."""
    for row in run.supervision("T1"):
        yield row
        if row.quantity == "T1 total":
            return


def test_matching_problems(shared):
    folder = shared / "golden"
    if not (folder / "matchers.json").is_file():
        pytest.skip(f"no matching problems at {folder}")
    rows = compare_matchers(folder, folder / "goldengen.py")
    over = rows_over(rows)
    assert not over, "\n" + table(over)
    recorded = json.loads((folder / "matchers.json").read_text())
    assert sum(r["o2m_deterministic"] and r["o2m_unique"] for r in recorded) > 100


def test_nothing_is_computed_in_float32(exact):
    tensors = [*exact.model.parameters(), *exact.outputs.states.references]
    assert {tensor.dtype for tensor in tensors} == {torch.float64}
