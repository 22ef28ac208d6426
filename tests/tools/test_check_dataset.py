"""The command that reports on a data set."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from hostile_cases import HostileSet
from PIL import Image


@pytest.fixture
def run(repository: Path, capsys):
    """Calls the tool, and returns (exit status, what it printed, its errors)."""
    path = repository / "tools" / "check_dataset.py"
    spec = importlib.util.spec_from_file_location("check_dataset", path)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)

    def call(*arguments: object) -> tuple[int, str, str]:
        try:
            status = tool.main([str(argument) for argument in arguments])
        except SystemExit as error:
            status = error.code
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def test_a_sound_set(run, tmp_path: Path) -> None:
    data = HostileSet(tmp_path)
    data.write()
    files = tmp_path / "out.json", tmp_path / "out.png"
    status, out, _ = run(
        data.json_file, "--images", tmp_path, "--json", files[0], "--plot", files[1]
    )
    assert status == 0 and "No defects" in out and "model.heads.num_classes=2" in out
    assert "cat        1 ########################################" in out
    (report,) = json.loads(files[0].read_text())["data_sets"]
    assert report["num_defects"] == 0 and report["numbers"]["objects"] == 2
    assert min(Image.open(files[1]).size) > 100


def test_all_defects_are_counted_and_all_lists_them(run, tmp_path: Path) -> None:
    data = HostileSet(tmp_path)
    data.annotations[1]["category_id"] = 5
    for number in range(50, 60):
        data.annotations.append({**data.annotations[0], "id": number, "bbox": [1, 1, 0, 1]})
    (tmp_path / "b.png").unlink()
    data.write()
    status, out, _ = run(data.json_file, "--images", tmp_path)
    assert status == 1 and "12 defects" in out and "10 x annotation; mend: drop" in out
    assert "... and 7 more (--all lists them)" in out and "b.png): the file does not exist" in out
    status, out, _ = run(data.json_file, "--images", tmp_path, "--all")
    assert status == 1 and all(f"annotation {number} " in out for number in range(50, 60))
    status, out, _ = run(data.json_file, "--images", tmp_path, "--no-files", "--degenerate", "skip")
    assert status == 1 and "1 defects" in out and "10 boxes of zero width" in out


def test_the_data_sets_of_a_config(run, tmp_path: Path, repository: Path) -> None:
    data = HostileSet(tmp_path)
    data.content["categories"].append({"id": 9, "name": "dog"})
    data.write()
    given = [f"dataset.{split}_{key}={value}" for split in ("train", "val")
             for key, value in (("json", data.json_file), ("images", tmp_path))]  # fmt: skip
    config = repository / "configs" / "custom" / "small.py"
    status, out, _ = run("--config-file", config, *given)
    assert status == 1 and out.count('"dog" belongs to category 8') == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give a json"),
        (["coco_2017_trian"], "did you mean coco_2017_train"),
        (["gone.json", "--images", "."], "gone.json does not exist"),
        (["--no-such-option"], "--no-such-option"),
        (["a.json", "b.json", "--images", "."], "b.json"),
        (["--config-file", "gone.py"], "gone.py"),
    ],
)
def test_a_wrong_call(run, arguments: list[str], words: str) -> None:
    status, _, errors = run(*arguments)
    assert status == 2 and words in errors


def test_a_json_without_its_folder_and_a_json_that_is_none(run, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[")
    status, _, errors = run(tmp_path / "x.json")
    assert status == 2 and "--images FOLDER" in errors
    status, _, errors = run(tmp_path / "x.json", "--images", tmp_path)
    assert status == 1 and "not a complete json" in errors
