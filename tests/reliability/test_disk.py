"""A disk that is full, or a directory that is gone: one clear line, and nothing saved is lost."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from detectron2.utils.events import EventStorage
from interrupted import assert_same_run, command, environment, train

from ms_detr.engine.checkpoint_files import find_sound
from ms_detr.engine.compare_runs import read_lines as metrics
from ms_detr.engine.files import write_atomically
from ms_detr.engine.results import read_results, save_results
from ms_detr.engine.writers import EventFileWriter, MetricsWriter, quiet_event_thread
from ms_detr.errors import OutputError


def limited(bytes_: int):
    """For a new process: no file may grow above so many bytes, as on a disk that is full."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_, bytes_))


def test_a_full_disk_ends_in_one_line(scenes, tmp_path):
    """The limit hits the log first, then a checkpoint: only those of before are there."""
    out, given = tmp_path / "run", ("train.checkpointer.period=2", "train.eval_period=0")
    train(out, scenes, *given, "train.max_iter=4")
    before = {path.name: path.read_bytes() for path in out.glob("model_*")}
    done = subprocess.run(
        command(out, scenes, *given, "train.max_iter=12", "--resume"),
        env=environment(), capture_output=True, text=True, preexec_fn=limited(4_000),
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert "the checkpoint '" in last and "File too large" in last and "--resume" in last
    assert "log.txt cannot be written" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr and "Exception" not in done.stderr
    assert before == {path.name: path.read_bytes() for path in out.glob("model_*")}
    assert find_sound(out) == str(out / "model_final.pth")
    train(out, scenes, *given, "train.max_iter=12", resume=True)  # room again
    train(tmp_path / "whole", scenes, *given, "train.max_iter=12")
    assert metrics(out)[-1]["iteration"] == metrics(tmp_path / "whole")[-1]["iteration"]


def in_limited_process(function, folder: Path) -> str:
    """What ``function(folder)`` says in a process that can write files of 5000 bytes at most."""
    reader, writer = os.pipe()
    if not os.fork():
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
        try:
            text = function(folder) or "nothing"
        except OutputError as error:
            text = f"OutputError: {error}"
        except BaseException as error:
            text = repr(error)
        os.write(writer, text.encode())
        os._exit(0)
    os.close(writer)
    with open(reader) as file:
        text = file.read()
    os.wait()
    return text


def save_too_much(folder: Path) -> None:
    content = {"model": torch.zeros(100_000)}
    write_atomically(folder / "a.pth", lambda file: torch.save(content, file), "the checkpoint")


def log_too_much(folder: Path) -> None:
    writer = MetricsWriter(str(folder / "metrics.json"))
    with EventStorage(0) as storage:
        for storage.iter in range(1000):
            storage.put_scalar("total_loss", 0.5)
            writer.write()


def show_too_much(folder: Path) -> None:
    quiet_event_thread()
    writer = EventFileWriter(str(folder))
    with EventStorage(0) as storage:
        for storage.iter in range(1000):
            storage.put_scalar("total_loss", 0.5)
            writer.write()
        writer.close()


def too_many_results(folder: Path) -> None:
    results = {"bbox": {f"AP-{i}": 1.0 for i in range(1000)}}
    save_results(folder / "results.json", results, 3)


@pytest.mark.parametrize(
    "function, name",
    [
        (save_too_much, "the checkpoint '.*a.pth'"),
        (log_too_much, "the metrics '.*metrics.json'"),
        (show_too_much, "TensorBoard's events in '"),
        (too_many_results, "the results '.*results.json'"),
    ],
)
def test_every_file_of_a_run(function, name, tmp_path, capfd):
    import re

    save_results(tmp_path / "results.json", {"bbox": {"AP": 1.0}}, 2)
    text = in_limited_process(function, tmp_path)
    assert re.match(f"OutputError: {name}.* cannot be written: File too large", text), text
    assert read_results(tmp_path / "results.json", 2) == {"bbox": {"AP": 1.0}}
    assert not list(tmp_path.glob("*.tmp-*"))
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("fate", ["deleted", "replaced by a file", "read-only"])
def test_a_directory_that_is_gone(fate, scenes, tmp_path, monkeypatch):
    """In the middle of a run: a clear error at the next writing, checkpoints elsewhere are safe."""
    from ms_detr.engine import Trainer

    if fate == "read-only" and os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    out, copy = tmp_path / "run", tmp_path / "copy"
    usual = Trainer.run_step

    def run_step(self):
        if self.iter == 6:
            shutil.copytree(out, copy)
            if fate == "read-only":
                out.chmod(0o500)
            else:
                shutil.rmtree(out)
                if fate == "replaced by a file":
                    out.write_text("")
        usual(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run_step", run_step)
        with pytest.raises(OutputError, match="the metrics '.*' cannot be written") as caught:
            train(out, scenes, "train.log_period=1", "train.eval_period=0")
    assert "--resume" in str(caught.value)
    if fate == "read-only":
        out.chmod(0o700)
    else:
        assert not out.is_dir()
    train(copy, scenes, "train.log_period=1", "train.eval_period=0", resume=True)
    train(tmp_path / "whole", scenes, "train.log_period=1", "train.eval_period=0")
    assert_same_run(copy, tmp_path / "whole")
