"""Hostile configs: each is refused with the file, the key or the line, and the mend."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from detectron2.config import LazyCall as L
from detectron2.config import LazyConfig
from hostile_cases import Case, table
from omegaconf import OmegaConf

from ms_detr.config import load_config
from ms_detr.data import DetrResize
from ms_detr.engine.value_checks import check_values
from ms_detr.errors import ConfigError


def written(name: str, content: str | bytes):
    """Writes a config file, and returns its path."""

    def make(folder: Path) -> Path:
        data = content.encode() if isinstance(content, str) else content
        (folder / name).write_bytes(data)
        return folder / name

    return make


def circle(folder: Path) -> Path:
    written("a.py", "from .b import train")(folder)
    return written("b.py", "from .a import train")(folder)


def deep_error(folder: Path) -> Path:
    """What fails is a function of an imported config."""
    written("part.py", "def make():\n    return 1 / 0\n\nvalue = make()\n")(folder)
    return written("x.py", "train = 1\n\nfrom .part import value\n")(folder)


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "x.py")
    return folder / "x.py"


def link(folder: Path) -> Path:
    (folder / "x.py").symlink_to("x.py")
    return folder / "x.py"


FILES = [
    Case("no file", lambda folder: folder / "gone.py", ("gone.py", "does not exist", "directory")),
    Case("a folder", lambda folder: folder, ("is a folder", "give a .py or .yaml")),
    Case("a pipe", pipe, ("x.py", "a pipe or a device", "give a .py")),
    Case("a link to itself", link, ("x.py", "does not exist")),
    Case("another ending", written("x.txt", "a"), ("x.txt", "neither .py nor .yaml", "give one")),
    Case("nothing", written("x.py", ""), ("x.py", "holds nothing", "model, dataloader")),
    Case("an empty yaml", written("x.yaml", ""), ("x.yaml", "holds nothing", "it needs the keys")),
    Case("a list", written("x.yaml", "- 1\n- 2\n"), ("x.yaml", "holds a ListConfig", "it needs")),
    Case("a yaml that is cut", written("x.yaml", "a: [1,"), ("x.yaml", "is no yaml", "line 1")),
    Case("not UTF-8", written("x.py", b'a = "\xff"'),
         ("x.py", "not UTF-8", "byte 5", "save it as")),
    Case("not UTF-8, a yaml", written("x.yaml", b"a: \xff"), ("x.yaml", "UTF-8")),
    Case("zero bytes", written("x.py", b"a = 1\0"), ("x.py", "syntax error", "null bytes")),
    Case("a syntax error", written("x.py", "\n\nx = = 1"), ("x.py", "line 3", "correct it")),
    Case("a config that raises", written("x.py", "a = 1\nraise RuntimeError('no luck')"),
         ("line 2", "RuntimeError: no luck", "correct that line")),
    Case("a failing part", deep_error, ("part.py", "line 4", "ZeroDivisionError", "correct")),
    Case("an unknown module", written("x.py", "import no_such_thing"), ("no_such_thing", "line 1")),
    Case("an absent part", written("x.py", "from .gone import model"),
         ("gone", "line 1", "correct")),
    Case("imports in a circle", circle, ("b.py", "imports itself", "break the circle")),
    Case("a circle of values", written("x.py", 'train = {"a": "${train.b}", "b": "${train.a}"}'),
         ("train.a refers to itself", "${train.b}", "value of its own")),
]  # fmt: skip


@table(FILES)
def test_refused(case: Case, tmp_path: Path) -> None:
    path = case.make(tmp_path)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    case.require(str(caught.value))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("tag", ["object/apply:os.mkdir", "object/new:os.mkdir", "object:os.x"])
def test_a_yaml_runs_nothing(tmp_path: Path, tag: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(f'ok: 1\nbad: !!python/{tag} ["{tmp_path / "made"}"]\n')
    with pytest.raises(ConfigError, match=rf"x\.yaml.*asks for !!python/{tag} in line 2.*not read"):
        load_config(path)
    assert not (tmp_path / "made").exists()


def test_a_yaml_of_a_run_is_read(tmp_path: Path) -> None:
    """Lazy calls, tuples and classes, as `LazyConfig.save` writes them."""
    cfg = OmegaConf.create({"model": L(DetrResize)(short_edge_length=[1, 2]), "rate": 0.5})
    LazyConfig.save(cfg, str(tmp_path / "x.yaml"))
    (tmp_path / "x.yaml").write_text(
        (tmp_path / "x.yaml").read_text() + "pair: !!python/tuple [1, 2]\n"
    )
    read = load_config(tmp_path / "x.yaml", ["rate=2"])
    assert read.rate == 2.0 and list(read.pair) == [1, 2] and read.model.short_edge_length == [1, 2]


OVERRIDES = [
    Case("an unknown key", lambda: "train.max_itre=5", ("train.max_itre", "did you mean")),
    Case("an unknown section", lambda: "trian.max_iter=5",
         ("trian.max_iter", "did you mean train")),
    Case("text for a number", lambda: "train.max_iter=many",
         ("'many' is a text", "a whole number")),
    Case("a list for a number", lambda: "train.max_iter=[1,2]", ("a list", "a whole number")),
    Case("a number for a switch", lambda: "train.amp.enabled=1", ("true or false",)),
    Case("a fraction for a count", lambda: "train.max_iter=1.5", ("1.5", "a whole number")),
    Case("no iterations", lambda: "train.max_iter=0", ("train.max_iter is 0", "at least 1", "set")),
    Case("fewer than none", lambda: "train.eval_period=-1", ("train.eval_period is -1", "set")),
    Case("an endless rate", lambda: "optimizer.lr=inf", ("optimizer.lr is inf", "above 0")),
    Case("a rate of NaN", lambda: "optimizer.lr=nan", ("optimizer.lr is nan", "above 0")),
    Case("a negative rate", lambda: "optimizer.lr=-1.0", ("optimizer.lr is -1.0", "above 0")),
    Case("negative batches", lambda: "dataloader.train.total_batch_size=-4",
         ("total_batch_size is -4",)),
    Case("negative workers", lambda: "dataloader.train.num_workers=-1",
         ("num_workers is -1", "set")),
    Case("brackets that never close", lambda: "train.max_iter=[1",
         ("train.max_iter=[1", "write key=value")),
    Case("nothing", lambda: "=", ("'='", "unknown config key")),
    Case("a circle", lambda: "train.max_iter=${train.max_iter}",
         ("refers to itself", "value of its own")),
]  # fmt: skip


@table(OVERRIDES)
def test_override_refused(case: Case, repository: Path) -> None:
    data = ["dataset.train_json=a", "dataset.train_images=a"]
    data += ["dataset.val_json=a", "dataset.val_images=a"]
    with pytest.raises(ConfigError) as caught:
        check_values(load_config(repository / "configs/custom/small.py", [*data, case.make()]))
    case.require(str(caught.value))
