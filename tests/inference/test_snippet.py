"""The program in docs/performance.md runs as it stands there."""

from __future__ import annotations

import re

import small_models
import torch
from detectron2.config import LazyConfig, instantiate
from omegaconf import OmegaConf
from PIL import Image


def test_the_documented_program_runs(repository, tmp_path, monkeypatch, capsys):
    text = (repository / "docs" / "performance.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    node = small_models.shrink(small_models.load("models/ms_detr.py").model)
    run = tmp_path / "output" / "demo"
    run.mkdir(parents=True)
    LazyConfig.save(OmegaConf.create({"model": node}, flags={"allow_objects": True}),
                    str(run / "config.yaml"))  # fmt: skip
    torch.save({"model": instantiate(node).state_dict()}, run / "model_final.pth")
    Image.new("RGB", (90, 70), "red").save(tmp_path / "image.jpg")
    monkeypatch.chdir(tmp_path)
    exec(compile(program, "docs/performance.md", "exec"), {})
    assert "Boxes(tensor" in capsys.readouterr().out
