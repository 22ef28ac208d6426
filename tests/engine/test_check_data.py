"""`train.check_data`: a run looks at its data once, and not at all where it is told not to."""

from __future__ import annotations

import json
import os

import pytest
from PIL import UnidentifiedImageError

from ms_detr.data import DatasetError
from ms_detr.engine import do_train
from ms_detr.engine.checks import loader_node


def reach_out(scenes) -> None:
    """A box that reaches 5 pixels beyond its image: refused, but nothing that breaks a loader."""
    path = scenes / "scenes.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["bbox"] = [25, 5, 12, 12]
    path.write_text(json.dumps(content))


def test_data_are_checked_unless_told_not_to(tiny_config, scenes) -> None:
    reach_out(scenes)
    with pytest.raises(DatasetError, match="annotation 1 .*beyond the image"):
        do_train(tiny_config("train.max_iter=2"))
    cfg = tiny_config("train.max_iter=2", "train.check_data=False")
    assert do_train(cfg)["bbox"]["AP"] == 6
    # the config itself stays as it was given
    assert "check" not in cfg.dataloader.train.dataset


def test_the_nodes_of_a_config_that_checks_are_its_own(tiny_config) -> None:
    cfg = tiny_config()
    assert loader_node(cfg, "train") is cfg.dataloader.train
    cfg.train.check_data = False
    assert loader_node(cfg, "train").dataset.check is False


def test_a_second_start_does_not_open_the_images(
    tiny_config, scenes, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    do_train(tiny_config("train.max_iter=1"))
    # other bytes of the same number and time: only who opens the file can tell
    path = scenes / "5.png"
    times = path.stat()
    path.write_bytes(b"x" * times.st_size)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(UnidentifiedImageError):  # of the loader, not of the check
        do_train(tiny_config("train.max_iter=9"))
    path.write_bytes(b"x")
    with pytest.raises(DatasetError, match=r"image 5 .*5\.png\): the file is not an image"):
        do_train(tiny_config("train.max_iter=9"))
