"""The tiny detector on the path, and a config of it that is ready to run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from omegaconf import DictConfig

from ms_detr.config import load_config
from ms_detr.engine import prepare_dataset

HERE = Path(__file__).resolve().parent


@pytest.fixture(autouse=True)
def tiny_world(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The tiny modules on the path; the data sets are forgotten after each test."""
    monkeypatch.syspath_prepend(str(HERE))
    yield
    for name in {"tiny", "custom_train", "custom_val"} & set(DatasetCatalog.list()):
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """A folder with the tiny data set."""
    from tiny_detector import write_scenes

    folder = tmp_path / "scenes"
    folder.mkdir()
    write_scenes(folder)
    return folder


@pytest.fixture
def tiny_config(scenes: Path, tmp_path: Path) -> Callable[..., DictConfig]:
    """Loads the tiny config with overrides; its data set is registered."""

    def load(*overrides: str) -> DictConfig:
        given = [f"dataset.root={scenes}", f"train.output_dir={tmp_path / 'out'}", *overrides]
        cfg = load_config(HERE / "tiny_config.py", given)
        prepare_dataset(cfg)
        return cfg

    return load


@pytest.fixture
def run_train_net(repository: Path) -> Callable[..., subprocess.CompletedProcess]:
    """Runs ``train_net.py`` with the tiny config, options and overrides."""
    environment = dict(os.environ)
    known = [str(HERE), *environment.get("PYTHONPATH", "").split(os.pathsep)]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, known))
    environment["OMP_NUM_THREADS"] = "1"

    def run(*given: str, processes: int = 0) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, str(repository / "train_net.py"), "--num-gpus", str(processes),
             "--config-file", str(HERE / "tiny_config.py"), *given],
            env=environment, capture_output=True, text=True,
        )  # fmt: skip

    return run
