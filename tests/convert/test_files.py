"""Checkpoint files: what is read, what is refused without being run, what is written."""

from __future__ import annotations

import argparse
import collections
import io
import os
import pathlib
import pickle
import re
import tarfile
import types

import pytest
import torch
from official_states import checkpoint, official, same
from torch import nn, serialization

from ms_detr.convert import (
    CheckpointError,
    UnsafeCheckpointError,
    load_official,
    load_ours,
    save_official,
    save_ours,
    to_ours,
)

STATE = {"weight": torch.ones(2, 3)}
FORMATS = {"zip": True, "before 1.6": False}


class Malicious:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: pathlib.Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def save(path: pathlib.Path, content: object, fmt: str = "zip") -> pathlib.Path:
    torch.save(content, path, _use_new_zipfile_serialization=FORMATS[fmt])
    return path


@pytest.mark.parametrize("fmt", FORMATS)
def test_official_checkpoint(tmp_path, fmt):
    content = checkpoint("models/ms_detr.py", epochs=12, resume="")
    loaded = load_official(save(tmp_path / "in.pth", content, fmt))
    assert same(loaded.model, content["model"])
    assert loaded.args == vars(content["args"])
    assert loaded.epoch == 11
    assert loaded.dropped == ("lr_scheduler", "optimizer")


@pytest.mark.parametrize(
    "content",
    [STATE, {"model": STATE}, {"model": collections.OrderedDict(STATE)}],
    ids=["bare", "model", "ordered"],
)
def test_other_official_forms(tmp_path, content):
    loaded = load_official(save(tmp_path / "in.pth", content))
    assert same(loaded.model, STATE) and loaded.args is None and loaded.epoch is None


def test_parameters_are_read_as_plain_tensors(tmp_path):
    content = {"model": {"weight": nn.Parameter(torch.ones(2))}}
    weight = load_official(save(tmp_path / "in.pth", content)).model["weight"]
    assert type(weight) is torch.Tensor and not weight.requires_grad


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("place", ["beside", "in args", "in the model", "as the file"])
def test_malicious_file_is_refused_and_not_run(tmp_path, place, fmt):
    marker = tmp_path / "marker"
    evil = Malicious(marker)
    content = {
        "beside": {"model": STATE, "lr_scheduler": [evil]},
        "in args": {"model": STATE, "args": argparse.Namespace(lr=1, names=["a", evil])},
        "in the model": {"model": {**STATE, "bias": evil}},
        "as the file": evil,
    }[place]
    path = save(tmp_path / "in.pth", content, fmt)
    for load in (load_official, load_ours):
        with pytest.raises(UnsafeCheckpointError, match=r"in\.pth is refused: .*system"):
            load(path)
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists(), "the file must really be malicious"


def test_malicious_pickle_in_a_tar_file_is_refused_and_not_run(tmp_path):
    """PyTorch before 2.6 unpickles what lies in a tar file without restrictions."""
    marker = tmp_path / "marker"
    path = tmp_path / "in.pth"
    data = pickle.dumps(Malicious(marker), protocol=2)
    # The name of the first member is the start of the file, here that of a pickle.
    with tarfile.open(path, "w", encoding="latin-1", format=tarfile.GNU_FORMAT) as tar:
        for member in ("\x80\x02", "storages", "pickle"):
            info = tarfile.TarInfo(member)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    with pytest.raises(UnsafeCheckpointError, match="it is a tar file"):
        load_official(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    "value, name",
    [
        (pathlib.PurePosixPath("/tmp"), "pathlib.PurePosixPath"),
        (types.SimpleNamespace(lr=1), "types.SimpleNamespace"),
        (nn.Linear(1, 1), "torch.nn.modules.linear.Linear"),
    ],
)
def test_nothing_but_a_namespace_is_allowed(tmp_path, value, name):
    path = save(tmp_path / "in.pth", {"model": STATE, "args": argparse.Namespace(value=value)})
    with pytest.raises(UnsafeCheckpointError, match=name):
        load_official(path)


def test_what_others_allowed_counts_no_more_and_is_left_as_it_was(tmp_path):
    before = serialization.get_safe_globals()
    serialization.add_safe_globals([types.SimpleNamespace])
    try:
        path = save(tmp_path / "in.pth", {"model": STATE, "x": types.SimpleNamespace()})
        torch.load(path, weights_only=True)
        with pytest.raises(UnsafeCheckpointError, match="SimpleNamespace"):
            load_official(path)
        torch.load(path, weights_only=True)
        namespace = save(tmp_path / "args.pth", {"model": STATE, "args": argparse.Namespace()})
        load_official(namespace)
        with pytest.raises(pickle.UnpicklingError):
            torch.load(namespace, weights_only=True)
    finally:
        serialization.clear_safe_globals()
        serialization.add_safe_globals(before)


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.98])
def test_truncated_file(tmp_path, fmt, share):
    path = save(tmp_path / "in.pth", checkpoint(), fmt)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(CheckpointError, match=r"in\.pth "):
        load_official(path)


def test_one_changed_byte_is_noticed_or_harmless(tmp_path):
    """Checksums cover names, tensors and the pickle; what they do not cover changes nothing."""
    path = tmp_path / "in.pth"
    content = {"model": {"a": torch.arange(400.0), "b": torch.ones(3)}, "epoch": 3}
    data = save(path, content).read_bytes()
    refused = 0
    # Every seventh byte, and the attributes of every part: 0x10 makes a part a folder.
    attributes = {found.start() + 38 for found in re.finditer(b"PK\x01\x02", data)}
    for position in sorted({*range(0, len(data), 7), *attributes}):
        path.write_bytes(data[:position] + bytes([data[position] ^ 0x10]) + data[position + 1 :])
        try:
            loaded = load_official(path)
        except CheckpointError:
            refused += 1
        else:
            assert same(loaded.model, content["model"]) and loaded.epoch == 3, position
    assert refused > 1600 // 7


def test_damaged_part_is_named(tmp_path):
    path = save(tmp_path / "in.pth", {"model": {"a": torch.full((1000,), 7.0)}})
    data = bytearray(path.read_bytes())
    data[data.index(torch.full((500,), 7.0).numpy().tobytes()) + 1000] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"checksum of its part \S+/data/0 is wrong"):
        load_official(path)


@pytest.mark.parametrize(
    "data", [b"hello", b"\x80\x02garbage", b"PK\x03\x04" + bytes(99), pickle.dumps({"model": 1})]
)
def test_file_that_is_no_checkpoint(tmp_path, data):
    path = tmp_path / "in.pth"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"in\.pth "):
        load_official(path)


@pytest.mark.parametrize(
    "content, message",
    [
        ([STATE], "holds a list"),
        ({}, "not a state dict"),
        ({"state_dict": STATE}, "state_dict"),
        ({"model": [1]}, "'model' is a list"),
        ({"model": {"weight": 1}}, "no state dict under 'model'"),
        ({"model": STATE, "args": ["--lr", "1"]}, "args is a list"),
        ({"model": STATE, "args": {1: 2}}, "args is a dict"),
    ],
)
def test_other_contents(tmp_path, content, message):
    with pytest.raises(CheckpointError, match=message):
        load_official(save(tmp_path / "in.pth", content))


def test_paths_that_cannot_be_read(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        load_official(tmp_path / "none.pth")
    with pytest.raises(CheckpointError, match="is a folder"):
        load_official(tmp_path)


def test_paths_that_cannot_be_written(tmp_path):
    path = tmp_path / "out.pth"
    path.write_text("precious")
    for save_to in (save_ours, save_official):
        with pytest.raises(CheckpointError, match="exists.*--overwrite"):
            save_to(path, STATE, {})
        with pytest.raises(CheckpointError, match="folder .*none does not exist"):
            save_to(tmp_path / "none" / "out.pth", STATE, {})
        with pytest.raises(CheckpointError, match="is a folder"):
            save_to(tmp_path, STATE, {}, overwrite=True)
    assert path.read_text() == "precious"
    save_ours(path, STATE, {}, overwrite=True)
    assert same(load_ours(path)[0], STATE)


def test_file_that_was_there_survives_a_failed_write(tmp_path):
    path = tmp_path / "out.pth"
    path.write_text("precious")
    with pytest.raises(Exception, match="pickle"):
        save_official(path, STATE, {"function": lambda: 0}, overwrite=True)
    assert path.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [path]


def test_round_trip_of_files(tmp_path):
    state = official("models/ms_detr.py")
    converted = to_ours(state)
    save_ours(tmp_path / "ours.pth", converted.state, converted.extras)
    found, extras = load_ours(tmp_path / "ours.pth")
    assert same(found, converted.state)
    assert same(extras["rest"], converted.extras["rest"])
    plain = torch.load(tmp_path / "ours.pth", weights_only=True)
    assert set(plain) == {"model", "official"}
    save_official(tmp_path / "back.pth", state, {"lr": 1}, 3)
    back = torch.load(tmp_path / "back.pth", weights_only=False)
    assert same(back["model"], state)
    assert back["args"] == argparse.Namespace(lr=1) and back["epoch"] == 3


def test_files_hold_no_more_than_their_tensors(tmp_path):
    """A row of a large tensor is saved without the others; a tensor under two keys once."""
    large = torch.ones(100_000)
    save_ours(tmp_path / "part.pth", {"part": large[:1]}, {})
    assert (tmp_path / "part.pth").stat().st_size < 10_000
    save_official(tmp_path / "twice.pth", {"a": large, "b": large})
    assert (tmp_path / "twice.pth").stat().st_size < 600_000


@pytest.mark.parametrize(
    "extras",
    [
        {"rest": [1]},
        {"rest": {"query_embed.weight": torch.tensor(1.0)}},
        {"aside": {"total_ops": 1}},
        {"args": ["--lr"]},
        {"family": ["ms-detr"]},
        [1],
        None,
    ],
)
def test_foreign_entry_beside_the_model(tmp_path, extras):
    path = save(tmp_path / "in.pth", {"model": STATE, "official": extras})
    with pytest.raises(CheckpointError, match="'official' is not what a conversion leaves"):
        load_ours(path)
