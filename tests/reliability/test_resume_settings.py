"""Resuming with other settings than the run was started with: what counts, what is refused."""

from __future__ import annotations

import pytest
import torch
from interrupted import final, train

from ms_detr.errors import ConfigError


def test_a_drawn_seed_is_kept(scenes, tmp_path):
    """A negative seed is drawn once for the run: resuming does not draw another."""
    with pytest.raises(RuntimeError, match="interrupted"):
        train(tmp_path / "run", scenes, "model.at=8", "train.seed=-1")
    seed = torch.load(tmp_path / "run/model_0000005.pth", weights_only=True)["trainer"]["seed"]
    train(tmp_path / "run", scenes, "train.seed=-1", resume=True)
    train(tmp_path / "whole", scenes, f"train.seed={seed}")
    # The initial weights came from another draw.
    assert final(tmp_path / "run")["trainer"]["seed"] == seed


def test_changed_settings_are_told(scenes, tmp_path, caplog):
    out = tmp_path / "run"
    train(out, scenes, "train.max_iter=4")
    given = ("train.max_iter=6", "train.seed=7", "optimizer.lr=0.5", "train.clip_grad.max_norm=1")
    train(out, scenes, *given, resume=True)
    assert "train.max_iter was 4 when the checkpoint was saved; the config's 6" in caplog.text
    assert "train.clip_grad.max_norm was 0.1" in caplog.text
    assert "seed 42 is continued, not 7" in caplog.text
    assert "learning rates" in caplog.text
    assert final(out)["iteration"] == 5


def test_another_optimizer_is_refused(scenes, tmp_path):
    train(tmp_path / "run", scenes, "train.max_iter=4")
    given = ("optimizer._target_=torch.optim.Adam", "train.max_iter=6")
    with pytest.raises(ConfigError, match="checkpoint's optimizer is AdamW, the config's Adam"):
        train(tmp_path / "run", scenes, *given, resume=True)


def test_other_parameters_are_refused(scenes, tmp_path):
    train(tmp_path / "run", scenes, "train.max_iter=4")
    with pytest.raises(ConfigError, match="train.freeze"):
        train(tmp_path / "run", scenes, "train.freeze=[backbone]", resume=True)


def test_another_model_is_refused(scenes, tmp_path):
    from interrupted import InterruptedDetector

    train(tmp_path / "run", scenes, "train.max_iter=4")
    path = tmp_path / "run" / "model_final.pth"
    content = final(tmp_path / "run")
    del content["model"]["boxes.bias"]
    content["model"]["more"] = torch.zeros(1)
    torch.save(content, path)
    with pytest.raises(ConfigError, match=r"another model: 2 tensors differ, .* boxes.bias"):
        train(tmp_path / "run", scenes, "train.max_iter=6", resume=True)
    assert "boxes.bias" in InterruptedDetector(2).state_dict()


def test_a_checkpoint_of_an_older_version(scenes, tmp_path):
    """Without what is logged: training goes on, and what was due is evaluated."""
    out = tmp_path / "run"
    train(out, scenes, "train.max_iter=4")
    (out / "results.json").unlink()
    content = final(out)
    del content["run"], content["trainer"]["events"], content["trainer"]["optimizer_class"]
    content["trainer"]["hooks"] = {"LRScheduler": content["trainer"]["hooks"]["LRScheduler"]}
    torch.save(content, out / "model_final.pth")
    assert train(out, scenes, "train.max_iter=4", resume=True)["bbox"]["AP"] > 0
    assert train(out, scenes, "train.max_iter=6", resume=True)["bbox"]["AP"] > 0
    assert final(out)["iteration"] == 5
