"""The same seed gives the same bits, and the seed of a run is kept."""

from __future__ import annotations

import itertools
import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import default_argument_parser
from detectron2.utils.events import EventStorage
from tiny_runs import tiny_config, tiny_scenes
from torch import nn

from ms_detr.data import generate_shapes
from ms_detr.engine import Trainer, do_train, setup
from ms_detr.errors import ConfigError

SMALL = [
    "train.max_iter=2", "train.eval_period=0", "dataloader.train.total_batch_size=2",
    "model.encoder.dropout=0.1", "train.deterministic=True", "train.device=cpu",
]  # fmt: skip


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    """Deterministic mode lasts as long as the process: here, as long as a test."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    yield
    torch.use_deterministic_algorithms(False)
    cudnn.deterministic, cudnn.benchmark = before


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    yield generate_shapes(tmp_path_factory.mktemp("shapes"), num_train=7, num_val=2).root
    for name in [name for name in DatasetCatalog.list() if name.startswith("shapes")]:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def trained(repository: Path, shapes: Path, out: Path, config: str, *overrides: str) -> dict:
    """The weights after a few updates of the demo's model, with dropout."""
    given = [f"dataset.root={shapes}", f"train.output_dir={out}", *SMALL, *overrides]
    path = str(repository / "configs/demo" / config)
    do_train(setup(default_argument_parser().parse_args(["--config-file", path, *given])))
    return torch.load(out / "model_final.pth", weights_only=True)["model"]


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    "config", ["shapes.py", pytest.param("shapes_mask.py", marks=pytest.mark.slow)]
)
def test_same_seed_same_bits(repository, shapes, tmp_path, config):
    def run(name: str, *overrides: str) -> dict:
        return trained(repository, shapes, tmp_path / name, config, *overrides)

    first = run("first")
    assert torch.are_deterministic_algorithms_enabled()
    assert same(first, run("again"))
    assert same(first, run("workers", "dataloader.train.num_workers=2"))
    assert not same(first, run("seed", "train.seed=43"))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    with tiny_scenes(tmp_path_factory.mktemp("scenes")) as folder:
        yield folder


def test_what_it_switches(scenes, tmp_path):
    do_train(tiny_config(scenes, tmp_path, "train.max_iter=1"))
    assert not torch.are_deterministic_algorithms_enabled()
    do_train(tiny_config(scenes, tmp_path, "train.max_iter=1", "train.deterministic=True"))
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cudnn.deterministic and not torch.backends.cudnn.benchmark
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_choosing_by_speed_is_refused_beside_it(scenes, tmp_path):
    both = ("train.deterministic=True", "train.cudnn_benchmark=True")
    with pytest.raises(ConfigError, match=r"cudnn_benchmark.*train\.deterministic"):
        tiny_config(scenes, tmp_path, *both)


@pytest.mark.parametrize("seed", [7, -1])
def test_a_resumed_run_keeps_its_seed(scenes, tmp_path, seed, caplog):
    """Also one that was drawn, and also where the config has another by now."""
    do_train(tiny_config(scenes, tmp_path, f"train.seed={seed}", "train.max_iter=12"))
    whole = torch.load(tmp_path / "model_final.pth", weights_only=True)
    assert whole["trainer"]["seed"] == seed or seed < 0 <= whole["trainer"]["seed"]
    (tmp_path / "last_checkpoint").write_text("model_0000003.pth")
    do_train(tiny_config(scenes, tmp_path, "train.seed=8", "train.max_iter=12"), resume=True)
    again = torch.load(tmp_path / "model_final.pth", weights_only=True)
    assert same(again["model"], whole["model"])
    assert again["trainer"]["seed"] == whole["trainer"]["seed"]
    assert "seed" in caplog.text


def test_a_loader_of_detectron2_is_read_with_a_warning(scenes, tmp_path, caplog):
    cfg = tiny_config(scenes, tmp_path, "train.max_iter=2")
    cfg.dataloader.train._target_ = "detectron2.data.build_detection_train_loader"
    assert do_train(cfg)["bbox"]["AP"] == 6
    warnings = [r for r in caplog.records if "resumed run does not continue" in r.getMessage()]
    assert len(warnings) == 1


class Drawing(nn.Module):
    """Its loss is a sum of draws of every generator."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, batch):
        drawn = random.random() + np.random.rand() + torch.rand(()).item()
        return {"loss": self.weight * 0 + drawn}


def drawn_losses(start: int, stop: int, seed: int = 3) -> list[float]:
    model = Drawing()
    batches = itertools.repeat([{}])
    trainer = Trainer(model, batches, torch.optim.SGD(model.parameters(), lr=0.1), seed=seed)
    losses = []
    for trainer.iter in range(start, stop):
        random.random(), np.random.rand(), torch.rand(1 + start)  # such as an evaluation
        with EventStorage(trainer.iter) as storage:
            trainer.run_step()
            losses.append(storage.latest()["loss"][0])
    return losses


def test_draws_of_a_step_depend_on_seed_iteration_and_rank(monkeypatch):
    whole = drawn_losses(0, 6)
    assert len(set(whole)) == 6
    assert drawn_losses(4, 6) == whole[4:]
    assert not set(drawn_losses(0, 6, seed=4)) & set(whole)
    monkeypatch.setattr("detectron2.utils.comm.get_rank", lambda: 1)
    monkeypatch.setattr("detectron2.utils.comm.is_main_process", lambda: True)
    assert not set(drawn_losses(0, 6)) & set(whole)
