"""From generated scenes to pictures of masks: data, two steps, both results, the picture."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from ms_detr.config import load_config
from ms_detr.data import generate_shapes
from ms_detr.engine import do_train
from ms_detr.errors import ConfigError


@pytest.fixture
def catalog():
    """Forgets, after the test, every data set that the test registered."""
    before = set(DatasetCatalog.list())
    yield
    for name in set(DatasetCatalog.list()) - before:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


@pytest.fixture
def overrides(tmp_path: Path, catalog) -> list[str]:
    generate_shapes(tmp_path / "data", num_train=4, num_val=2)
    return [
        f"dataset.root={tmp_path / 'data'}",
        f"train.output_dir={tmp_path / 'run'}",
        "train.max_iter=2",
        "train.eval_period=0",
        "train.device=cpu",
        "dataloader.train.total_batch_size=2",
    ]


def tool(repository: Path, name: str):
    spec = importlib.util.spec_from_file_location(name, repository / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_demo_of_masks(repository: Path, tmp_path: Path, overrides: list[str]) -> None:
    config = repository / "configs" / "demo" / "shapes_mask.py"
    results = do_train(load_config(config, overrides))
    assert set(results) == {"bbox", "segm"}
    written = json.loads((tmp_path / "run" / "results.json").read_text())["metrics"]
    assert {"AP", "AP50", "AR100"} <= set(written["segm"]) and "AP" in written["bbox"]
    arguments = ["--config-file", str(config), "--output", str(tmp_path / "pictures")]
    # everything that two steps find is drawn, however low its score
    arguments += ["--num-images", "2", "--score-threshold", "0", *overrides]
    assert tool(repository, "visualize").main(arguments) == 0
    with Image.open(tmp_path / "pictures" / "detections.png") as picture:
        assert picture.format == "PNG"


def test_a_mask_head_needs_masks(repository: Path, overrides: list[str]) -> None:
    cfg = load_config(repository / "configs" / "demo" / "shapes_mask.py", overrides)
    cfg.dataloader.train.dataset.maskless = "keep"
    with pytest.raises(ConfigError, match=r"dataloader\.train\.dataset\.maskless=error"):
        do_train(cfg)


def test_the_demo_takes_masks_or_compares(repository: Path, tmp_path: Path, capsys) -> None:
    demo = tool(repository, "demo")
    with pytest.raises(SystemExit):
        demo.main(["--masks", "--compare", "--output", str(tmp_path)])
    assert "not allowed with" in capsys.readouterr().err
    assert demo.MASKS.is_file() and demo.BOXES.is_file() and demo.MASKS != demo.BOXES
