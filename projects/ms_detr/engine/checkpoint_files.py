"""The checkpoints in an output directory: which there are, which are sound, which go."""

from __future__ import annotations

import logging
import os
import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from ..errors import ConfigError

logger = logging.getLogger(__name__)

LAST, FINAL, BEST = "last_checkpoint", "model_final", "model_best"
_NUMBERED = re.compile(r"model_(\d{7,})\.pth")
_KEYS = ("model", "trainer", "iteration")
# What torch.load raises for a zip archive that is no checkpoint, or holds more than tensors.
_READ_ERRORS = (OSError, RuntimeError, ValueError, KeyError, TypeError, EOFError, ImportError)


def name_of(iteration: int) -> str:
    """The name, without suffix, of the checkpoint saved after ``iteration`` (counted from 0)."""
    return f"model_{iteration:07d}"


def checkpoint_names(folder: str | os.PathLike[str]) -> list[str]:
    """Names of the checkpoints that training may go on from, in the order in which it should.

    First the one that ``last_checkpoint`` names (whether it is there or not), then the others,
    the newest first.
    """
    first = _tagged(folder)
    found = [path.name for path in Path(folder).glob("model_*.pth") if _order(path) is not None]
    found.sort(key=lambda name: _order(Path(folder, name)) or 0, reverse=True)
    return ([first] if first else []) + [name for name in found if name != first]


def _tagged(folder: str | os.PathLike[str]) -> str:
    """The name in ``last_checkpoint``; empty if there is none that could be one of the folder."""
    try:
        name = Path(folder, LAST).read_bytes().decode(errors="replace").strip("\0 \r\n")
    except OSError:
        return ""
    return name if name and os.path.basename(name) == name else ""


def _order(path: Path) -> float | None:
    """The iteration of a checkpoint; infinity for a final one that does not tell its own."""
    match = _NUMBERED.fullmatch(path.name)
    if match:
        return int(match[1])
    if path.name != f"{FINAL}.pth":
        return None
    content, _ = _read(path)
    return float("inf") if content is None else content["iteration"]


def defect_of(path: str | os.PathLike[str]) -> str:
    """What is wrong with a checkpoint of a run; empty if nothing is.

    The check sums of all tensors are compared, which ``torch.load`` does not do: it loads a
    flipped bit without a word.
    """
    if not os.path.isfile(path):
        return "the file does not exist"
    if not os.path.getsize(path):
        return "the file is empty"
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        return f"truncated or not a checkpoint ({error})"
    if bad is not None:
        return f"corrupt: the check sum of {bad} is wrong"
    return _read(path)[1]


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, Any] | None, str]:
    """The content without its tensors' values (they stay on disk), or why there is none."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except _READ_ERRORS as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
        return None, f"not a checkpoint ({reason})"
    except Exception as error:  # pickle's errors have no common base of their own
        return None, f"not a checkpoint ({type(error).__name__})"
    if not isinstance(content, dict) or any(key not in content for key in _KEYS):
        return None, f"weights without the state of a run (it lacks one of {', '.join(_KEYS)})"
    if not isinstance(content["iteration"], int):
        return None, f"not a checkpoint (its iteration is {content['iteration']!r})"
    return content, ""


def has_checkpoints(folder: str | os.PathLike[str]) -> bool:
    """Whether a run left checkpoints here, sound or not."""
    return bool(checkpoint_names(folder))


def find_sound(folder: str | os.PathLike[str]) -> str:
    """The path of the checkpoint to go on from: the first sound one of :func:`checkpoint_names`.

    Those that are passed over are logged with what is wrong with them.

    Raises:
        ConfigError: there are checkpoints, but none is sound.
    """
    skipped = []
    for name in checkpoint_names(folder):
        path = os.path.join(folder, name)
        defect = defect_of(path)
        if not defect:
            if skipped:
                logger.warning("--resume: going on from %s instead", path)
            return path
        skipped.append(f"{name}: {defect}")
        logger.warning("--resume: %s cannot be used, %s", path, defect)
    raise ConfigError(
        f"--resume: no checkpoint in {os.fspath(folder)!r} can be used ({'; '.join(skipped)}); "
        f"put a sound one there, or start anew without --resume (old files are kept aside)"
    )


def delete_old(folder: str | os.PathLike[str], iteration: int, keep: int) -> None:
    """Keeps the last ``keep`` numbered checkpoints up to ``iteration``; later ones are not touched.

    Later ones lie there if a run went on from an earlier checkpoint than its last.
    """
    numbers = [int(match[1]) for match in map(_NUMBERED.fullmatch, os.listdir(folder)) if match]
    for number in sorted(n for n in numbers if n <= iteration)[:-keep]:
        Path(folder, f"{name_of(number)}.pth").unlink(missing_ok=True)


def keep_earlier_run(folder: str | os.PathLike[str]) -> None:
    """Puts what an earlier run left aside, where a new run would mix its own files with it.

    ``metrics.json`` becomes ``metrics.1.json`` (or the next number that is free), likewise
    ``results.json``; checkpoints move into ``checkpoints.1``.
    """
    root = Path(folder)
    number = 1
    kept = ("metrics.{}.json", "results.{}.json", "checkpoints.{}")
    while any((root / name.format(number)).exists() for name in kept):
        number += 1
    for name in ("metrics.json", "results.json"):
        if (root / name).exists():
            target = root / name.replace(".json", f".{number}.json")
            (root / name).rename(target)
            logger.warning("%s of an earlier run is kept as %s", root / name, target)
    old = [root / LAST, *sorted(root.glob("model_*.pth"))]
    old = [path for path in old if path.exists()]
    if old:
        target = root / f"checkpoints.{number}"
        target.mkdir()
        for path in old:
            path.rename(target / path.name)
        logger.warning("checkpoints of an earlier run are kept in %s", target)
