"""Whole runs of the tiny detector of tests/engine, as a user starts them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import default_argument_parser
from omegaconf import DictConfig

from ms_detr.engine import setup

TINY = Path(__file__).resolve().parent / "engine"


@contextmanager
def tiny_scenes(folder: Path) -> Iterator[Path]:
    """The tiny data set in a folder, and its modules on the path, until the end of the block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(TINY))
        from tiny_detector import write_scenes

        write_scenes(folder)
        yield folder
    if "tiny" in DatasetCatalog.list():
        DatasetCatalog.remove("tiny")
        MetadataCatalog.remove("tiny")


def tiny_config(scenes: Path, out: Path, *overrides: str) -> DictConfig:
    """The config of a run, set up as the command line does."""
    given = [f"dataset.root={scenes}", f"train.output_dir={out}", *overrides]
    config = str(TINY / "tiny_config.py")
    return setup(default_argument_parser().parse_args(["--config-file", config, *given]))
