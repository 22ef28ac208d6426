"""A run that was stopped and resumed ends like one that never stopped, in every bit."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from interrupted import ScoreEvaluator, assert_same_run, final, train
from omegaconf import OmegaConf
from small_models import change, shrink
from small_models import load as load_recipe

from ms_detr.engine import do_train
from ms_detr.engine.compare_runs import differences
from ms_detr.engine.compare_runs import read_lines as metrics

FAST = (1, 4, 8, 9, 12)  # in the first iteration, after each kind of event, and in the last


def interrupt(out, scenes, at: int, *overrides: str, how: str = "error") -> None:
    """Starts a run that is interrupted at its ``at``-th iteration (of this process)."""
    given = (*overrides, f"model.at={at}", f"model.how={how}")
    if how == "error":
        with pytest.raises(RuntimeError, match="interrupted"):
            train(out, scenes, *given)
    else:
        assert train(out, scenes, *given) == {}


EVERY = [at if at in FAST else pytest.param(at, marks=pytest.mark.slow) for at in range(1, 13)]


@pytest.mark.parametrize("at", EVERY)
def test_an_error_anywhere(at, scenes, undisturbed, tmp_path):
    """Also before the first checkpoint, where the run begins again and puts the old one aside."""
    interrupt(tmp_path / "run", scenes, at)
    train(tmp_path / "run", scenes, resume=True)
    assert_same_run(tmp_path / "run", undisturbed)


def test_the_comparison_sees_a_bit(scenes, undisturbed, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(undisturbed, out)
    assert_same_run(out, undisturbed)
    content = final(out)
    content["model"]["boxes.bias"].view(torch.int32)[0] ^= 1
    torch.save(content, out / "model_final.pth")
    assert differences(final(out), final(undisturbed)) == [".model.boxes.bias"]
    train(tmp_path / "other", scenes, "train.seed=43")
    with pytest.raises(AssertionError):
        assert_same_run(tmp_path / "other", undisturbed)


def test_killed_again_and_again(scenes, undisturbed, tmp_path):
    """Every process does two iterations more than it can save, then fails."""
    out = tmp_path / "run"
    with pytest.raises(RuntimeError, match="interrupted"):
        train(out, scenes, "model.at=5")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="interrupted"):
            train(out, scenes, "model.at=5", resume=True)
    train(out, scenes, resume=True)
    assert_same_run(out, undisturbed)


KINDS = {
    "bf16": ["train.amp.enabled=True"],
    "fp16 and its scaler": ["train.amp.enabled=True", "train.amp.dtype=fp16"],
    "accumulated": ["train.accumulate=2"],
    "averaged": ["train.ema.enabled=True", "train.checkpointer.best=ema/bbox/AP"],
    "all at once": ["train.ema.enabled=True", "train.accumulate=2", "train.amp.enabled=True"],
    "workers": ["dataloader.train.num_workers=2", "dataloader.test.num_workers=1"],
    "log every 5": ["train.log_period=5", "train.eval_period=3"],
    "no evaluation": ["train.eval_period=0", "train.checkpointer.best=null"],
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_training(kind, scenes, tmp_path):
    out, whole, given = tmp_path / "run", tmp_path / "whole", KINDS[kind]
    train(whole, scenes, *given)
    interrupt(out, scenes, 14 if "train.accumulate=2" in given else 8, *given)
    train(out, scenes, *given, resume=True)
    assert (whole / "model_best.pth").exists() == ("train.checkpointer.best=null" not in given)
    assert_same_run(out, whole)


def test_what_was_evaluated_is_not_evaluated_again(scenes, undisturbed, tmp_path):
    """Evaluations come at iterations 3, 7 and 11, checkpoints at 2, 5, 8 and 11."""
    given = ("train.checkpointer.period=4",)
    interrupt(tmp_path / "run", scenes, 10, *given)
    before = ScoreEvaluator.evaluations
    train(tmp_path / "run", scenes, *given, resume=True)
    assert ScoreEvaluator.evaluations == before + 1, "that of iteration 7 is known"
    assert differences(metrics(tmp_path / "run"), metrics(undisturbed)) == []


def test_an_evaluation_that_was_lost_is_made_up_for(scenes, undisturbed, tmp_path):
    given = ("train.checkpointer.period=4",)
    interrupt(tmp_path / "run", scenes, 10, *given)
    (tmp_path / "run" / "results.json").unlink()
    before = ScoreEvaluator.evaluations
    train(tmp_path / "run", scenes, *given, resume=True)
    assert ScoreEvaluator.evaluations == before + 2
    assert differences(metrics(tmp_path / "run"), metrics(undisturbed)) == []


def test_a_torn_line_is_cut(scenes, undisturbed, tmp_path):
    interrupt(tmp_path / "run", scenes, 9)
    path = tmp_path / "run" / "metrics.json"
    path.write_text(path.read_text() + '{"iteration": 8, "total_l')
    train(tmp_path / "run", scenes, resume=True)
    assert_same_run(tmp_path / "run", undisturbed)


def test_the_final_checkpoint_is_made_up_for(scenes, undisturbed, tmp_path):
    """Killed between the checkpoint of the last iteration and the final one."""
    out = tmp_path / "run"
    train(out, scenes)
    (out / "model_final.pth").unlink()
    (out / "last_checkpoint").write_text("model_0000011.pth")
    (out / "results.json").unlink()
    train(out, scenes, resume=True)
    assert_same_run(out, undisturbed)


def test_a_finished_run_is_left_alone(scenes, tmp_path, caplog):
    out = tmp_path / "run"
    results = train(out, scenes)
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    count = ScoreEvaluator.evaluations
    with caplog.at_level("INFO", "ms_detr"):
        again = train(out, scenes, resume=True)
    assert repr(again) == repr(results) and ScoreEvaluator.evaluations == count
    assert {p.name: p.read_bytes() for p in out.iterdir() if p.is_file()} == before
    assert "nothing is left to do" in caplog.text


def test_a_new_run_does_not_mix_with_an_old_one(scenes, undisturbed, tmp_path):
    """Without --resume: the new run's checkpoints are not taken for those of the longer old one."""
    out = tmp_path / "run"
    train(out, scenes, "train.max_iter=20", "train.seed=3")
    train(out, scenes)
    assert_same_run(out, undisturbed)
    kept = sorted(path.name for path in (out / "checkpoints.1").iterdir())
    assert "model_0000017.pth" in kept and "last_checkpoint" in kept
    assert json.loads((out / "results.1.json").read_text())["iteration"] == 20


def test_weights_of_the_own_folder_can_begin_a_new_run(scenes, tmp_path):
    out = tmp_path / "run"
    train(out, scenes, "train.max_iter=2")
    start = f"train.init_checkpoint={out / 'model_final.pth'}"
    train(out, scenes, "train.max_iter=1", "optimizer.lr=1e-12", start)
    old = torch.load(out / "checkpoints.1/model_final.pth", weights_only=True)["model"]
    for name, value in final(out)["model"].items():
        torch.testing.assert_close(value, old[name])


def test_hooks_of_users_are_called(scenes, tmp_path):
    """All four methods, in a run that is stopped too."""
    from detectron2.engine import HookBase

    from ms_detr.engine import Trainer

    calls = []

    class Hook(HookBase):
        def before_train(self):
            calls.append("before_train")

        def before_step(self):
            calls.append(f"before {self.trainer.iter}")

        def after_step(self):
            calls.append(f"after {self.trainer.iter}")
            self.trainer.stopping = self.trainer.iter == 6

        def after_train(self):
            calls.append(f"after_train {self.trainer.iter} {self.trainer.storage.iter}")

    model = torch.nn.Linear(1, 1)
    model.forward = lambda batch: {"a": model.weight.sum() ** 2}
    trainer = Trainer(model, [[]] * 9, torch.optim.SGD(model.parameters(), 0.1))
    trainer.register_hooks([Hook()])
    trainer.train(5, 9)
    wanted = ["before_train", "before 5", "after 5", "before 6", "after 6", "after_train 6 6"]
    assert calls == wanted
    trainer.stopping = False
    calls.clear()
    trainer.train(8, 9)
    assert calls == ["before_train", "before 8", "after 8", "after_train 9 9"]


def small_ms_detr(out, scenes):
    """The published recipe, shrunken, with augmentation and dropout, on the tiny scenes."""
    from interrupted import CONFIG

    from ms_detr.config import load_config

    cfg = load_config(CONFIG, [f"dataset.root={scenes}", f"train.output_dir={out}"])
    cfg.model = shrink(load_recipe("ms_detr/ms_detr_r50_300q_12ep.py").model, num_classes=2)
    change(cfg.model.encoder, dropout=0.1)
    cfg.train.max_iter, cfg.train.eval_period, cfg.train.checkpointer.period = 6, 3, 2
    cfg.dataloader.train.mapper.augmentations = OmegaConf.create(
        [{"_target_": "detectron2.data.transforms.RandomFlip"}]
    )
    return cfg


@pytest.mark.parametrize("at", [pytest.param(4, marks=pytest.mark.slow), 5])
def test_a_real_ms_detr(at, scenes, tmp_path):
    from detectron2.engine import HookBase
    from interrupted import registered

    torch.manual_seed(0)
    with registered(scenes):
        do_train(small_ms_detr(tmp_path / "whole", scenes))
    torch.manual_seed(0)

    class Halt(HookBase):
        def before_step(self):
            if self.trainer.iter == at:
                raise RuntimeError("interrupted")

    from ms_detr.engine import Trainer

    usual = Trainer.register_hooks
    with registered(scenes), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "register_hooks", lambda self, given: usual(self, [*given, Halt()]))
        with pytest.raises(RuntimeError, match="interrupted"):
            do_train(small_ms_detr(tmp_path / "run", scenes))
    with registered(scenes):
        do_train(small_ms_detr(tmp_path / "run", scenes), resume=True)
    assert_same_run(tmp_path / "run", tmp_path / "whole")
