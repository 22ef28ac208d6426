"""What was found sound is not looked at again, until anything of it changes."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest
from PIL import Image

from ms_detr.data import DatasetError, check_dataset, checked_dataset_dicts, register_coco_json
from ms_detr.data.check_cache import cache_folder

pytestmark = pytest.mark.usefixtures("catalog")


@pytest.fixture
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture
def named(small, cache: Path) -> str:
    small.save()
    return register_coco_json("cached", small.json_file, small.root)


def break_unseen(path: Path) -> None:
    """Other bytes of the same number, at the same time: only who opens the file can tell."""
    before = path.stat()
    path.write_bytes(b"x" * before.st_size)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_the_second_check_does_not_open_images(small, named: str, caplog) -> None:
    small.content["annotations"][0]["segmentation"] = [[5, 5, 25, 5, 25, 15], [1, 2, 3, 4]]
    small.content["annotations"][2]["bbox"] = [0.0, 0.0, 0.0, 32.0]
    small.save()
    options = {"degenerate": "skip", "maskless": "skip"}

    def warnings() -> list[str]:
        return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]

    first = check_dataset(named, **options)
    assert warnings() == list(first.messages) and len(first.messages) > 1
    break_unseen(small.root / "a.jpg")
    caplog.clear()
    with caplog.at_level(logging.INFO):
        assert check_dataset(named, **options) == first
    assert warnings() == list(first.messages)
    assert "as when it was checked last" in caplog.records[-1].getMessage()


@pytest.mark.parametrize("change", ["json", "size", "time", "option", "gone", "entry", "version"])
def test_what_changes_is_checked_again(
    small, named: str, cache: Path, monkeypatch, change: str
) -> None:
    check_dataset(named)
    victim, options = small.root / "a.jpg", {}
    break_unseen(victim)
    check_dataset(named)  # the proof that the rest of this test would see a new check
    if change == "json":
        small.content["annotations"][0]["area"] = 199.0
        small.save()
    elif change == "size":
        victim.write_bytes(b"x")
    elif change == "time":
        os.utime(victim, ns=(1, 1))
    elif change == "option":
        options = {"evaluation": True}
    elif change == "gone":
        victim.unlink()
    elif change == "version":
        monkeypatch.setattr("ms_detr.data.check_cache._VERSION", -1)
    else:
        (entry,) = cache_folder().iterdir()
        entry.write_text(entry.read_text()[:50])
    with pytest.raises(DatasetError, match=r"image 10 .*a\.jpg"):
        check_dataset(named, **options)


def test_a_failure_is_not_kept(small, named: str) -> None:
    (small.root / "a.jpg").write_bytes(b"broken")
    for _ in range(2):
        with pytest.raises(DatasetError, match=r"a\.jpg"):
            check_dataset(named)
    assert not cache_folder().exists()
    Image.new("RGB", (60, 40)).save(small.root / "a.jpg")
    check_dataset(named)
    assert len(list(cache_folder().iterdir())) == 1


@pytest.mark.parametrize("what", ["a file in place of the folder", "garbage"])
def test_without_a_usable_cache_everything_is_checked(small, named: str, cache: Path, what) -> None:
    if what == "garbage":
        check_dataset(named)
        (entry,) = cache_folder().iterdir()
        entry.write_text(json.dumps({"summary": 5, "images": []}))
    else:
        cache_folder().write_text("")
    check_dataset(named)
    break_unseen(small.root / "a.jpg")
    if what == "garbage":  # it was replaced by a sound answer
        check_dataset(named)
    else:
        with pytest.raises(DatasetError):
            check_dataset(named)


def test_no_check_is_no_check(small, named: str) -> None:
    (small.root / "a.jpg").write_bytes(b"broken")
    records = checked_dataset_dicts(named, check=False)
    assert len(records) == 3 and not cache_folder().exists()
