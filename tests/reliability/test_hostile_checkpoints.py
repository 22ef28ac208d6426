"""Hostile checkpoints: nothing of a file is run; it is refused by name, or its weights arrive."""

from __future__ import annotations

import argparse
import collections
import io
import os
import pickle
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hostile_cases import Case, table
from torch import nn

from ms_detr.engine import ReportingCheckpointer
from ms_detr.engine.build import load_weights
from ms_detr.errors import ConfigError

WEIGHTS = {"0.weight": torch.arange(6.0).reshape(2, 3), "0.bias": torch.tensor([7.0, 8.0])}
ARRAYS = {name: tensor.numpy() for name, tensor in WEIGHTS.items()}


class Touch:
    """Leaves a file where it is unpickled: code of the checkpoint has run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


class Call:
    """Asks for any function by name."""

    def __init__(self, function, *arguments) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 2))


def load(path: Path) -> nn.Module:
    built = model()
    load_weights(ReportingCheckpointer(built), str(path))
    return built


def saved(content, name: str = "x.pth", **options):
    """Writes with ``torch.save``, or as a pickle if the name ends in .pkl."""

    def make(folder: Path) -> Path:
        made = content(folder / "touched") if callable(content) else content
        path = folder / name
        if name.endswith(".pkl"):
            path.write_bytes(pickle.dumps(made, **options))
        else:
            torch.save(made, path, **options)
        return path

    return make


def raw(data: bytes, name: str = "x.pth"):
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return make


def cut(share: float):
    def make(folder: Path) -> Path:
        path = saved({"model": WEIGHTS})(folder)
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
        return path

    return make


def archive(folder: Path) -> Path:
    """A tar file, which old versions of PyTorch unpickle without restriction."""
    data = pickle.dumps(Touch(folder / "touched"))
    with tarfile.open(folder / "x.pth", "w", format=tarfile.PAX_FORMAT) as file:
        info = tarfile.TarInfo("\x80pickle")
        info.size = len(data)
        file.addfile(info, io.BytesIO(data))
    return folder / "x.pth"


def other_zip(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "x.pth", "w") as file:
        file.writestr("readme.txt", "hello")
    return folder / "x.pth"


def tensor_in_pickle(folder: Path) -> Path:
    """Tensors in a plain pickle bring a whole pickle of their own."""
    return saved({"model": WEIGHTS}, "x.pkl")(folder)


NAMED = ("x.p", "refused", "asks for", "Nothing of it was run", "unless you trust")
NO_STATE = ("x.p", "not a state dict", 'save {"model": state_dict}')
BROKEN = ("x.p", "cannot be loaded", "give a .pth")

REFUSED = [
    Case("code in a .pkl", saved(lambda p: {"model": Touch(p)}, "x.pkl"), (*NAMED, "io.open")),
    Case("code in an old .pkl", saved(lambda p: Touch(p), "x.pkl", protocol=0), NAMED),
    Case("code in a .pth", saved(lambda p: {"model": Touch(p)}), NAMED),
    Case("code beside weights", saved(lambda p: {"model": WEIGHTS, "log": [Touch(p)]}), NAMED),
    Case(
        "code in an old .pth",
        saved(lambda p: Touch(p), _use_new_zipfile_serialization=False),
        NAMED,
    ),
    Case("code in a .pyth", saved(lambda p: {"model_state": Touch(p)}, "x.pyth"), NAMED),
    Case("code in a tar file", archive, ("x.pth", "cannot be loaded")),
    Case("tensors in a .pkl", tensor_in_pickle, (*NAMED, "torch._utils._rebuild_tensor_v2")),
    Case("a whole model", saved({"model": model()}), (*NAMED, "Sequential")),
    Case("a call of eval", saved({"a": Call(eval, "1")}, "x.pkl"), (*NAMED, "builtins.eval")),
    Case("os.system", saved(Call(os.system, "true"), "x.pkl"), (*NAMED, "posix.system")),
    Case("attributes", saved(Call(getattr, 1, "real"), "x.pkl"), (*NAMED, "builtins.getattr")),
    Case("a codec", raw(b"c_codecs\nencode\n(Vx\nVbz2\ntR.", "x.pkl"), ("x.pkl", "'bz2'")),
    Case("an array of objects", saved({"a": np.array([None])}, "x.pkl"), ("x.pkl", "no numbers")),
    Case("an array of records", saved({"a": np.zeros(2, "i4,f4")}, "x.pkl"), ("x.pkl", "V8")),
    Case("a persistent id", raw(b"Pabc\n.", "x.pkl"), BROKEN),
    Case("a pickle for ever deeper", raw(b"(" * 10**6, "x.pkl"), BROKEN),
    Case("a pickle of nothing", raw(b"", "x.pkl"), BROKEN),
    Case("a pickle of text", raw(b"hello there", "x.pkl"), BROKEN),
    Case("no bytes", raw(b""), (*BROKEN, "not a PyTorch checkpoint")),
    Case("a page of the web", raw(b"<html>404</html>"), (*BROKEN, "starts with b'<htm'")),
    Case("cut in the middle", cut(0.5), (*BROKEN, "cut off or damaged")),
    Case("cut at the end", cut(0.98), (*BROKEN, "cut off or damaged")),
    Case("another zip file", other_zip, BROKEN),
    Case("a tensor", saved(torch.zeros(3)), ("holds a Tensor", *NO_STATE)),
    Case("a list", saved([1, 2]), ("holds a list", *NO_STATE)),
    Case("an empty dict", saved({}), ("holds an empty dict", *NO_STATE)),
    Case("an empty model", saved({"model": {}}), ("'model' is empty", *NO_STATE)),
    Case("no model", saved({"model": None}), ("'model' is a NoneType", *NO_STATE)),
    Case("a model of texts", saved({"model": {"0.bias": "x"}}), ("'0.bias' is a str", "save")),
    Case("numbers for names", saved({"model": {1: torch.zeros(2)}}), ("1 is a Tensor", "save")),
    Case("a .pyth without a model", saved({"a": 1}, "x.pyth"), ("'model_state' holds a NoneType",)),
    Case(
        "NaN in a weight",
        saved({"model": WEIGHTS | {"0.bias": torch.tensor([1.0, torch.nan])}}),
        ("x.pth", "0.bias of shape (2,) holds NaN or infinity", "earlier checkpoint"),
    ),
    Case(
        "infinity in a .pkl",
        saved({"model": {"0.bias": np.array([np.inf, 0])}, "__author__": "x"}, "x.pkl"),
        ("x.pkl", "0.bias", "NaN or infinity"),
    ),
    Case(
        "another model",
        saved({"model": {"transformer.level_embed": torch.zeros(4, 256)}}),
        ("none of its 1 tensors (transformer.level_embed)", "0.bias", "tools/convert.py"),
    ),
    Case(
        "the names of this model with other shapes",
        saved({"model": {name: torch.zeros(5, 5) for name in WEIGHTS}}),
        ("none of its 2 tensors", "name and shape", "of another model"),
    ),
]


@table(REFUSED)
def test_refused(case: Case, tmp_path: Path) -> None:
    path = case.make(tmp_path)
    before = set(tmp_path.iterdir())
    with pytest.raises(ConfigError) as caught:
        load(path)
    case.require(str(caught.value))
    assert "train.init_checkpoint" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert set(tmp_path.iterdir()) == before  # nothing has run


def test_what_is_refused_would_have_run(tmp_path: Path) -> None:
    """The rows above prove something only if their pickles do what they threaten."""
    pickle.loads(pickle.dumps(Touch(tmp_path / "touched"))).close()
    assert (tmp_path / "touched").exists()


def ordered(content):
    return collections.OrderedDict(content)


def in_order(order: str, dtype: str) -> dict:
    """Arrays in another memory order and byte order."""
    return {name: np.array(array, dtype=dtype, order=order) for name, array in ARRAYS.items()}


def zoo(arrays: dict, protocol: int):
    content = {"model": arrays, "__author__": "somebody", "size": np.float32(1.5), "seen": b"\xff"}
    return saved(content, "x.pkl", protocol=protocol)


def python2(folder: Path) -> Path:
    """A pickle as Python 2 wrote it: byte strings, and numpy under its old names."""
    data = pickle.dumps({"model": ARRAYS, "__author__": "old"}, protocol=2)
    data = data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    return raw(data, "x.pkl")(folder)


ACCEPTED = [
    Case("of a training", saved({"model": WEIGHTS, "iteration": 5, "optimizer": {"a": [1]}})),
    Case("a bare state dict", saved(ordered(WEIGHTS))),
    Case("of DistributedDataParallel", saved({f"module.{k}": v for k, v in WEIGHTS.items()})),
    Case("the old format", saved({"model": WEIGHTS}, _use_new_zipfile_serialization=False)),
    Case("with an official command line", saved({"model": WEIGHTS,
         "args": argparse.Namespace(a=1)})),
    Case("of pycls", saved({"model_state": WEIGHTS}, "x.pyth")),
    Case("of Python 2", python2),
    Case("Fortran's order", zoo(in_order("F", "f4"), 2)),
    Case("the other byte order", zoo(in_order("C", ">f8"), 2)),
    Case("half precision", zoo(in_order("C", "f2"), 4)),
    *[Case(f"a .pkl of protocol {n}", zoo(ARRAYS, n)) for n in range(pickle.HIGHEST_PROTOCOL + 1)],
]  # fmt: skip


@table(ACCEPTED)
def test_the_weights_arrive(case: Case, tmp_path: Path) -> None:
    built = load(case.make(tmp_path))
    for name, tensor in built.state_dict().items():
        assert torch.equal(tensor, WEIGHTS[name])


def test_numpy_is_not_asked_for_what_a_pickle_holds(tmp_path: Path) -> None:
    """A module that a pickle names is not even imported."""
    (tmp_path / "surprise_module.py").write_text("raise SystemExit('imported')")
    path = raw(b"csurprise_module\nthing\n.", "x.pkl")(tmp_path)
    sys.path.insert(0, str(tmp_path))
    try:
        with pytest.raises(ConfigError, match=r"asks for surprise_module\.thing"):
            load(path)
    finally:
        sys.path.remove(str(tmp_path))
    assert "surprise_module" not in sys.modules


def test_a_part_of_another_shape_keeps_its_values_and_the_rest_is_loaded(tmp_path: Path) -> None:
    """As after a change of classes: said in the log, and no error."""
    content = {"model": WEIGHTS | {"0.weight": torch.zeros(7, 3)}}
    built = load(saved(content)(tmp_path))
    assert torch.equal(built[0].bias, WEIGHTS["0.bias"])
    assert built[0].weight.shape == (2, 3) and built[0].weight.any()
