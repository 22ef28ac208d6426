"""Parts that are not trained."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ms_detr.engine import KeepFrozen, do_train, freeze_parts
from ms_detr.errors import ConfigError


def small_model() -> nn.Module:
    parts = {"trunk": nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)), "top": nn.Linear(2, 1)}
    return nn.ModuleDict(parts | {"dropout": nn.Dropout(0.5)})


def test_parts_by_name():
    model = small_model()
    (part,) = freeze_parts(model, ["trunk.0"])
    assert part is model["trunk"][0]
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {"trunk.1.weight", "trunk.1.bias", "top.weight", "top.bias"}
    assert freeze_parts(model, []) == []


def test_frozen_parts_stay_in_evaluation_mode():
    model = small_model()
    hook = KeepFrozen(freeze_parts(model, ["trunk", "dropout"]))
    model.train()
    hook.before_step()
    modes = {name: part.training for name, part in model.named_modules() if name}
    assert modes == {
        "trunk": False, "trunk.0": False, "trunk.1": False, "top": True, "dropout": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    "names, words",
    [
        (["trunkk"], r"names 'trunkk', but .* did you mean trunk\? its parts are trunk, top, drop"),
        (["trunk", "res9"], "names 'res9'"),
        ([""], "names ''"),
        ([None], "names None"),
        ("trunk", r"give a list, train.freeze=\[trunk\]"),
    ],
)
def test_names_without_a_part(names, words):
    with pytest.raises(ConfigError, match=words):
        freeze_parts(small_model(), names)


def test_a_run_leaves_frozen_parts_alone(tiny_config, tmp_path):
    """Also behind an evaluation, after which detectron2 puts the model in training mode again."""
    from tiny_detector import TinyDetector

    seen = []

    class Watched(TinyDetector):
        def forward(self, batch):
            if self.training:
                seen.append({name for name, part in self.named_children() if not part.training})
            return super().forward(batch)

    # Weight decay would change whatever the optimizer holds.
    cfg = tiny_config("train.freeze=[backbone,boxes]", "optimizer.weight_decay=0.1")
    cfg.model._target_ = Watched
    do_train(cfg)
    assert seen == [{"backbone", "boxes"}] * 12  # with evaluations after the 5th and the 10th
    final = torch.load(tmp_path / "out" / "model_final.pth", weights_only=True)["model"]
    first = torch.load(tmp_path / "out" / "model_0000003.pth", weights_only=True)["model"]
    changed = {name.split(".")[0] for name in first if not torch.equal(first[name], final[name])}
    assert changed == {"sampling_offsets", "classifier"}


def test_a_wrong_name_stops_the_run(tiny_config):
    with pytest.raises(ConfigError, match=r"train.freeze names 'box', .* did you mean boxes\?"):
        do_train(tiny_config("train.freeze=[box]"))
