"""The weights of the best evaluation, live or averaged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from interrupted import assert_same_run, final, train
from omegaconf import OmegaConf
from torch import nn

from ms_detr.engine import ReportingCheckpointer
from ms_detr.engine.best import BestWeights
from ms_detr.engine.checkpoint_files import checkpoint_names, find_sound
from ms_detr.engine.checks import check_best
from ms_detr.engine.compare_runs import differences
from ms_detr.errors import ConfigError


def best_of(tmp_path: Path, metric: str | None) -> tuple[BestWeights, nn.Module]:
    model = nn.Linear(1, 1)
    return BestWeights(metric, ReportingCheckpointer(model, str(tmp_path)), model), model


def test_the_best_weights(tmp_path):
    best, model = best_of(tmp_path, "bbox/AP")
    kept = []
    values = (float("nan"), -1.0, 20.0, float("nan"), 10.0, 20.0, 30.0)
    for iteration, value in enumerate(values):
        model.weight.data.fill_(iteration)
        best.update({"bbox/AP": value, "bbox/AP50": 99.0}, iteration)
        path = tmp_path / "model_best.pth"
        kept.append(torch.load(path, weights_only=True)["iteration"] if path.exists() else None)
    assert kept == [None, 1, 2, 2, 2, 2, 6]
    content = torch.load(path, weights_only=True)
    assert content["model"]["weight"].item() == 6 and content["metric"] == {"bbox/AP": 30.0}
    assert not (tmp_path / "last_checkpoint").exists() and checkpoint_names(tmp_path) == []


def test_no_best_is_asked_for_or_there(tmp_path):
    best_of(tmp_path, None)[0].update({"bbox/AP": 1.0}, 0)
    best_of(tmp_path, "bbox/AP")[0].update({}, 0)  # no evaluator
    with pytest.raises(ConfigError, match="best is 'segm/AP', .* only bbox/AP"):
        best_of(tmp_path, "segm/AP")[0].update({"bbox/AP": 1.0}, 0)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_name_of_the_best_loses_nothing(scenes, undisturbed, tmp_path):
    out = tmp_path / "run"
    given = "train.checkpointer.period=4"
    with pytest.raises(ConfigError, match="best is 'segm/AP'"):
        train(out, scenes, "train.checkpointer.best=segm/AP", given)
    assert find_sound(out).endswith("model_0000003.pth")  # saved before it was evaluated
    train(out, scenes, given, resume=True)
    assert_same_run(out, undisturbed)
    assert final(out)["trainer"]["hooks"]["Evaluate"]["best"] is not None


def test_the_best_average(scenes, tmp_path):
    given = ("train.ema.enabled=True", "train.checkpointer.best=ema/bbox/AP")
    train(tmp_path, scenes, *given, "train.max_iter=4")
    best = torch.load(tmp_path / "model_best.pth", weights_only=True)
    saved = torch.load(tmp_path / "model_final_ema.pth", weights_only=True)
    assert differences(best["model"], saved["model"]) == []
    assert differences(best["model"], final(tmp_path)["model"]) != []
    with pytest.raises(ConfigError, match="no average of the weights is kept"):
        train(tmp_path / "other", scenes, given[1])


def test_the_best_of_what_is_not_evaluated():
    def check(best, tasks):
        check_best(
            OmegaConf.create(
                {
                    "train": {"checkpointer": {"best": best}, "ema": {"enabled": True}},
                    "dataloader": {"evaluator": {"tasks": tasks}},
                }
            )
        )

    with pytest.raises(ConfigError, match=r"tasks is \['segm'\]; set .*best=segm/AP"):
        check("bbox/AP", ["segm"])
    check("ema/segm/AP", ["bbox", "segm"])
    check("bbox/AP", None)
    check(None, ["segm"])
    check_best(OmegaConf.create({"train": {}}))
