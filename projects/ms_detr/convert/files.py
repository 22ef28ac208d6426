"""Checkpoint files: read without running code, written whole or not at all."""

from __future__ import annotations

import argparse
import contextlib
import os
import pickle
import re
import tarfile
import threading
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, serialization

from .errors import CheckpointError, UnsafeCheckpointError

EXTRAS_KEY = "official"
_UNSAFE = re.compile(r"GLOBAL (\S+)|(?:function|objects? of type|class) (\S+)")
_READ_ERRORS = (
    pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, TypeError, LookupError,
    AttributeError, AssertionError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
_allowing = threading.Lock()


@dataclass(frozen=True)
class OfficialCheckpoint:
    """What an official checkpoint file holds.

    Attributes:
        model: its state dict.
        args: the command line it was trained with, as a plain dict; None if it has none.
        epoch: the last finished epoch; None if it says none.
        dropped: what else it holds and is not used, such as the state of the optimizer.
    """

    model: dict[str, Tensor]
    args: dict[str, Any] | None
    epoch: int | None
    dropped: tuple[str, ...]


def load_official(path: str | os.PathLike[str]) -> OfficialCheckpoint:
    """Read an official checkpoint, {"model": state dict, "args": Namespace, ...} or a state dict.

    Tensors and plain values are read, and ``argparse.Namespace``, which becomes a dict; nothing
    else, so that no code of the file can run.

    Raises:
        UnsafeCheckpointError: the file asks for anything else.
        CheckpointError: there is no such file, or it is no checkpoint.
    """
    content = _read(path)
    model = _model(content, path)
    if model is content:
        return OfficialCheckpoint(model, None, None, ())
    args, epoch = content.get("args"), content.get("epoch")
    if args is not None and not (isinstance(args, dict) and all(type(k) is str for k in args)):
        raise CheckpointError(f"{path}: args is a {type(args).__name__}, not a set of options")
    used = {"model", "args", "epoch"} if isinstance(epoch, int) else {"model", "args"}
    dropped = tuple(sorted(str(key) for key in set(content) - used))
    return OfficialCheckpoint(model, args, epoch if "epoch" in used else None, dropped)


def load_ours(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint of a training run here, or a converted one: its state dict and extras.

    The extras are empty if the model was not converted from an official one.

    Raises:
        UnsafeCheckpointError, CheckpointError: as :func:`load_official`.
    """
    content = _read(path)
    model = _model(content, path)
    extras = content.get(EXTRAS_KEY, {}) if model is not content else {}
    if not _are_extras(extras):
        raise CheckpointError(f"{path}: {EXTRAS_KEY!r} is not what a conversion leaves there")
    return model, extras


def save_ours(
    path: str | os.PathLike[str],
    state: Mapping[str, Tensor],
    extras: Mapping[str, Any],
    *,
    overwrite: bool = False,
) -> None:
    """Write a checkpoint that ``train_net.py`` loads; the extras lie beside its state dict.

    Raises:
        CheckpointError: the file exists, its folder does not, or it cannot be written.
    """
    extras = {**extras, **{key: compact(extras.get(key, {})) for key in ("rest", "aside")}}
    _write(path, {"model": compact(state), EXTRAS_KEY: extras}, overwrite)


def save_official(
    path: str | os.PathLike[str],
    state: Mapping[str, Tensor],
    args: Mapping[str, Any] | None = None,
    epoch: int | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Write a checkpoint that the official ``main.py --resume`` loads.

    Raises:
        CheckpointError: as :func:`save_ours`.
    """
    content: dict[str, Any] = {"model": compact(state)}
    if args is not None:
        content["args"] = argparse.Namespace(**args)
    if epoch is not None:
        content["epoch"] = epoch
    _write(path, content, overwrite)


def check_output(path: str | os.PathLike[str], overwrite: bool) -> None:
    """Refuse a path that cannot be written.

    Raises:
        CheckpointError: it is a folder, its folder does not exist, or it exists and may not be
            overwritten.
    """
    path = Path(path)
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; give the name of a file to write")
    if not path.parent.is_dir():
        raise CheckpointError(f"the folder {path.parent} does not exist; make it first")
    if path.exists() and not overwrite:
        raise CheckpointError(f"{path} exists; give another name, or --overwrite")


def compact(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors, each with no more storage than it needs; shared ones stay shared."""
    copies: dict[int, Tensor] = {}
    for tensor in state.values():
        if id(tensor) not in copies:
            needed = tensor.numel() * tensor.element_size()
            large = tensor.untyped_storage().nbytes() > needed
            copies[id(tensor)] = tensor.clone() if large else tensor
    return {key: copies[id(tensor)] for key, tensor in state.items()}


def read_torch_file(path: str | os.PathLike[str]) -> Any:
    """Read what ``torch.save`` wrote, of tensors, plain values and ``argparse.Namespace`` only.

    Raises:
        UnsafeCheckpointError: the file asks for anything else; nothing of it was run.
        CheckpointError: there is no such file, it is damaged, or it is not one of PyTorch.
    """
    path = Path(path)
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; give the checkpoint file in it")
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist")
    try:
        _check_format(path)
        with _only_namespace_allowed(), warnings.catch_warnings():
            # A file that is no checkpoint gets an error; a warning before it says nothing more.
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            return torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except _READ_ERRORS as error:
        raise _explain(path, error) from error


def _read(path: str | os.PathLike[str]) -> dict[Any, Any]:
    content = read_torch_file(path)
    if not isinstance(content, dict) or not content:
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a state dict")
    return _plain(content)


def _check_format(path: Path) -> None:
    """Only PyTorch's two formats: a zip file, or (before PyTorch 1.6) a sequence of pickles."""
    with path.open("rb") as file:
        start = file.read(4)
    if start == b"PK\x03\x04":
        if not zipfile.is_zipfile(path):
            raise CheckpointError(f"{path} is cut off or damaged; get it again")
        _check_parts(path)
    elif not start.startswith(b"\x80"):
        raise CheckpointError(f"{path} is not a PyTorch checkpoint (it starts with {start!r})")
    elif tarfile.is_tarfile(path):
        # PyTorch before 2.6 reads tar files without the restrictions of weights_only.
        raise UnsafeCheckpointError(
            f"{path} is refused: it is a tar file, which cannot be read safely"
        )


def _check_parts(path: Path) -> None:
    """Every part of a zip file is whole: PyTorch itself does not compare the checksums."""
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
        # PyTorch takes a part with a folder's mark for an empty one, whatever its size.
        folders = [x.filename for x in archive.infolist() if x.external_attr & 0x10 and x.file_size]
    if damaged is not None:
        raise CheckpointError(
            f"{path} is damaged: the checksum of its part {damaged} is wrong; get it again"
        )
    if folders:
        raise CheckpointError(f"{path} is damaged: its part {folders[0]} is marked as a folder")


@contextlib.contextmanager
def _only_namespace_allowed() -> Iterator[None]:
    """While it lasts, ``weights_only`` allows argparse.Namespace, and nothing of the caller's."""
    with _allowing:
        before = serialization.get_safe_globals()
        serialization.clear_safe_globals()
        serialization.add_safe_globals([argparse.Namespace])
        try:
            yield
        finally:
            serialization.clear_safe_globals()
            serialization.add_safe_globals(before)


def _explain(path: Path, error: Exception) -> CheckpointError:
    text = " ".join(str(error).split())
    refused = _UNSAFE.search(text) if "eights only load failed" in text else None
    if refused:
        return UnsafeCheckpointError(
            f"{path} is refused: it asks for {(refused[1] or refused[2]).rstrip('.,')}, and a "
            "checkpoint may hold only tensors, plain values and an argparse.Namespace. Nothing of "
            "it was run. Do not load it by other means unless you trust its origin; if you do, "
            'save its state dict alone, as {"model": state_dict}'
        )
    reason = text.split("WeightsUnpickler error:")[-1].strip()
    return CheckpointError(
        f"{path} cannot be read as a checkpoint, it may be cut off or damaged "
        f"({type(error).__name__}: {reason[:120]})"
    )


def _plain(value: Any) -> Any:
    """The same value with dicts in place of Namespaces, and detached tensors."""
    if isinstance(value, argparse.Namespace):
        return _plain(vars(value))
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
        return type(value)(_plain(inner) for inner in value)
    return value.detach() if isinstance(value, Tensor) else value


def _model(content: dict[Any, Any], path: str | os.PathLike[str]) -> dict[str, Tensor]:
    model = content.get("model", content)
    if not isinstance(model, dict) or not model:
        raise CheckpointError(f"{path}: 'model' is a {type(model).__name__}, not a state dict")
    if not all(isinstance(key, str) and isinstance(model[key], Tensor) for key in model):
        where = "under 'model'" if model is not content else "(nor one under 'model')"
        raise CheckpointError(
            f"{path} holds no state dict {where}: its keys are {[str(key) for key in model][:8]}"
        )
    return model


def _are_extras(extras: Any) -> bool:
    """Whether it is laid out like the extras of a conversion, all of which may be absent."""
    if not isinstance(extras, dict):
        return False
    rest, aside, args = (extras.get(key, {}) for key in ("rest", "aside", "args"))
    args = {} if args is None else args
    return (
        all(isinstance(part, dict) for part in (rest, aside, args))
        and all(isinstance(rows, Tensor) and rows.ndim for rows in rest.values())
        and all(isinstance(value, Tensor) for value in aside.values())
        and isinstance(extras.get("family", ""), str)
    )


def _write(path: str | os.PathLike[str], content: dict[str, Any], overwrite: bool) -> None:
    path = Path(path)
    check_output(path, overwrite)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f"{path} cannot be written: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)
