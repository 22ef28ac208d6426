"""Checkpoints are whole or not there; unsound ones are found, named and passed over."""

from __future__ import annotations

import multiprocessing
import os
import signal
import zipfile
from pathlib import Path

import pytest
import torch
from interrupted import assert_same_run, train
from torch import nn

from ms_detr.engine import ReportingCheckpointer
from ms_detr.engine.checkpoint_files import (
    checkpoint_names,
    defect_of,
    delete_old,
    find_sound,
    keep_earlier_run,
)
from ms_detr.engine.files import remove_leftovers, write_atomically, write_text_atomically
from ms_detr.errors import ConfigError, OutputError


def save(folder: Path, iteration: int, name: str = "", value: float = 0.0) -> Path:
    """A checkpoint as a run leaves it."""
    path = folder / (name or f"model_{iteration:07d}.pth")
    content = {"model": {"a": torch.full((1000,), value)}, "trainer": {}, "iteration": iteration}
    torch.save(content, path)
    return path


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(bytes(content))


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def write_and_die(target: Path, moment: str) -> None:
    def write(file):
        file.write(b"new" * 1000)
        file.flush()
        if moment == "inside":
            die()

    if moment == "before the name":
        os.replace = die
    write_atomically(target, write, "the file")
    die()


@pytest.mark.parametrize("moment", ["inside", "before the name", "after"])
def test_killed_while_writing(moment, tmp_path):
    """The old content or the new one, never a part; what is left over is deleted later."""
    target = tmp_path / "file"
    target.write_bytes(b"old")
    child = multiprocessing.get_context("fork").Process(target=write_and_die, args=(target, moment))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert target.read_bytes() == (b"new" * 1000 if moment == "after" else b"old")
    assert len(list(tmp_path.iterdir())) == (1 if moment == "after" else 2)
    (tmp_path / "notes.tmp-mine").touch()
    remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"file", "notes.tmp-mine"}


def test_a_failed_write_leaves_everything(tmp_path):
    write_text_atomically(tmp_path / "file", "old", "the file")

    def fail(file):
        file.write(b"new")
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match="the file '.*file' cannot be written: No space left"):
        write_atomically(tmp_path / "file", fail, "the file")
    with pytest.raises(ZeroDivisionError):
        write_atomically(tmp_path / "file", lambda file: 1 / 0, "the file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"


def damage(path: Path, kind: str) -> None:
    """Spoils a checkpoint in one of the ways of ``DAMAGES``."""
    size = path.stat().st_size
    if kind == "bit in a tensor":
        flip(path, size // 2)
    elif kind == "bit in the pickle":
        with zipfile.ZipFile(path) as archive:
            info = next(entry for entry in archive.infolist() if entry.filename.endswith(".pkl"))
        flip(path, info.header_offset + 200)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind.startswith("torn"):
        path.write_bytes(path.read_bytes()[: size * int(kind.split()[1]) // 100])
    elif kind == "zeros":
        path.write_bytes(bytes(size))
    elif kind == "weights only":
        torch.save({"model": {}}, path)
    elif kind == "another zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("letter.txt", "hello")
    elif kind == "code":
        torch.save({"model": {}, "trainer": os.system, "iteration": 3}, path)
    elif kind == "folder":
        path.unlink()
        path.mkdir()
    else:
        path.unlink()


DAMAGES = [
    "bit in a tensor", "bit in the pickle", "empty", "torn 1", "torn 50", "torn 99", "zeros",
    "weights only", "another zip", "code", "folder", "gone",
]  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGES)
def test_damage_is_found(kind, tmp_path, caplog):
    older, newest = save(tmp_path, 3), save(tmp_path, 7)
    (tmp_path / "last_checkpoint").write_text("model_0000007.pth")
    assert find_sound(tmp_path) == str(newest) and not defect_of(newest)
    damage(newest, kind)
    caplog.clear()
    assert find_sound(tmp_path) == str(older)
    assert "model_0000007.pth cannot be used" in caplog.text
    assert f"going on from {older} instead" in caplog.text
    damage(older, kind)
    with pytest.raises(ConfigError, match="model_0000007.pth: .*model_0000003.pth|can be used"):
        if kind == "gone":
            (tmp_path / "last_checkpoint").write_text("model_0000007.pth")
        find_sound(tmp_path)


def test_torch_itself_does_not_see_a_flipped_bit(tmp_path):
    """Why the check sums are compared."""
    path = save(tmp_path, 3)
    flip(path, path.stat().st_size // 2)
    assert torch.load(path, weights_only=True)["model"]["a"].count_nonzero() == 1
    assert "check sum" in defect_of(path)


@pytest.mark.parametrize("tag", [None, "", "\0\0\0", "model_9999999.pth", "../outside.pth"])
def test_a_useless_tag(tag, tmp_path):
    """The newest sound checkpoint is found without ``last_checkpoint``."""
    save(tmp_path, 3)
    newest = save(tmp_path, 7)
    save(tmp_path.parent, 9, "outside.pth")
    if tag is not None:
        (tmp_path / "last_checkpoint").write_text(tag)
    assert find_sound(tmp_path) == str(newest)


def test_which_checkpoint_comes_first(tmp_path):
    for iteration in (3, 11, 7):
        save(tmp_path, iteration)
    save(tmp_path, 9, "model_final.pth")  # of a shorter run that went on
    save(tmp_path, 3, "model_best.pth")
    (tmp_path / "model_0000012.pth.tmp-77").touch()
    assert checkpoint_names(tmp_path) == [
        "model_0000011.pth", "model_final.pth", "model_0000007.pth", "model_0000003.pth",
    ]  # fmt: skip
    (tmp_path / "last_checkpoint").write_text("model_0000003.pth\n")
    assert checkpoint_names(tmp_path)[:2] == ["model_0000003.pth", "model_0000011.pth"]
    (tmp_path / "empty").mkdir()
    assert checkpoint_names(tmp_path / "empty") == [] == checkpoint_names(tmp_path / "nowhere")


def test_the_last_few_stay(tmp_path):
    """Counted by what lies there; what an abandoned attempt left after them is not touched."""
    for iteration in (1, 3, 5, 7, 20):
        save(tmp_path, iteration)
    save(tmp_path, 5, "model_final.pth")
    delete_old(tmp_path, 7, keep=2)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [
        "model_0000005.pth", "model_0000007.pth", "model_0000020.pth", "model_final.pth",
    ]  # fmt: skip


def test_a_resumed_run_knows_its_predecessors(scenes, tmp_path):
    out = tmp_path / "run"
    given = ("train.checkpointer.period=1", "train.checkpointer.max_to_keep=2")
    with pytest.raises(RuntimeError, match="interrupted"):
        train(out, scenes, *given, "model.at=6")
    assert sorted(p.name for p in out.glob("model_0*")) == [
        "model_0000003.pth",
        "model_0000004.pth",
    ]
    with pytest.raises(RuntimeError, match="interrupted"):
        train(out, scenes, *given, "model.at=2", resume=True)
    assert sorted(p.name for p in out.glob("model_0*")) == [
        "model_0000004.pth",
        "model_0000005.pth",
    ]


def test_an_earlier_run_is_put_aside(tmp_path):
    for _ in range(2):
        save(tmp_path, 3)
        for name in ("metrics.json", "results.json", "last_checkpoint", "log.txt"):
            (tmp_path / name).write_text("x")
        keep_earlier_run(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "log.txt", "metrics.1.json", "metrics.2.json", "results.1.json", "results.2.json",
        "checkpoints.1", "checkpoints.2",
    }  # fmt: skip
    keep_earlier_run(tmp_path)
    assert not (tmp_path / "checkpoints.3").exists()


def test_detectron2_resumes_by_the_same_rules(tmp_path):
    """Its ``resume_or_load`` goes through the check too, and it reads what is saved here."""
    from detectron2.checkpoint import DetectionCheckpointer

    def of_run(kind=ReportingCheckpointer):
        torch.manual_seed(0)
        model = nn.Linear(2, 2)
        return model, kind(model, str(tmp_path), trainer=torch.optim.SGD(model.parameters(), 0.1))

    model, checkpointer = of_run()
    model.weight.data.fill_(3)
    checkpointer.save("model_0000003", iteration=3)
    model.weight.data.fill_(7)
    checkpointer.save("model_0000007", iteration=7)
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000007.pth"
    theirs, loader = of_run(DetectionCheckpointer)
    assert loader.resume_or_load("", resume=True)["iteration"] == 7 and theirs.weight[0, 0] == 7
    damage(tmp_path / "model_0000007.pth", "torn 50")
    again, checkpointer = of_run()
    assert checkpointer.resume_or_load("", resume=True)["iteration"] == 3
    assert again.weight[0, 0] == 3
    damage(tmp_path / "model_0000003.pth", "empty")
    with pytest.raises(ConfigError, match="model_0000003.pth: the file is empty"):
        checkpointer.resume_or_load("", resume=True)


@pytest.mark.parametrize("kind", ["bit in a tensor", "torn 50", "gone"])
def test_a_run_goes_on_from_an_older_checkpoint(kind, scenes, undisturbed, tmp_path, caplog):
    out = tmp_path / "run"
    with pytest.raises(RuntimeError, match="interrupted"):
        train(out, scenes, "model.at=11")
    damage(out / "model_0000008.pth", kind)
    train(out, scenes, resume=True)
    assert "model_0000008.pth cannot be used" in caplog.text
    assert_same_run(out, undisturbed)


def test_nothing_sound_is_never_a_new_start(scenes, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(RuntimeError, match="interrupted"):
        train(out, scenes, "model.at=8")
    before = (out / "metrics.json").read_bytes()
    for path in out.glob("model_0*.pth"):
        damage(path, "torn 50")
    with pytest.raises(ConfigError) as caught:
        train(out, scenes, resume=True)
    assert "model_0000002.pth" in str(caught.value) and "model_0000005.pth" in str(caught.value)
    assert (out / "metrics.json").read_bytes() == before
