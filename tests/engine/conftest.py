"""The tiny detector on the path, and a config of it that is ready to run."""

from __future__ import annotations

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
    """The tiny modules on the path; the data set is forgotten after each test."""
    monkeypatch.syspath_prepend(str(HERE))
    yield
    if "tiny" in DatasetCatalog.list():
        DatasetCatalog.remove("tiny")
        MetadataCatalog.remove("tiny")


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
