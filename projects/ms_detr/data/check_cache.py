"""Data sets that were found sound are not looked at again until something of them changes.

An answer is kept under the hash of the json's bytes and of the options of the check, with the
sizes and times of the image files; only sound data sets are kept. It lies in
`$XDG_CACHE_HOME/ms_detr`, or `~/.cache/ms_detr`. Without a folder that can be written, everything
is checked every time.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .summary import CocoSummary

__all__ = ["cache_folder", "checked_once"]

logger = logging.getLogger(__name__)

_VERSION = 1  # raise it when a check changes: what was sound may not be any more
_BLOCK = 1 << 20


def cache_folder() -> Path:
    """Where answers are kept; it need not exist."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "ms_detr"


def checked_once(
    json_file: str | os.PathLike[str],
    image_root: str | os.PathLike[str],
    options: dict[str, object],
    check: Callable[[], CocoSummary],
) -> tuple[CocoSummary, bool]:
    """The answer of `check`, or that of an earlier run on the same json, images and options.

    A changed image is seen by its size or time.

    Args:
        json_file: path of the json, a file that exists.
        image_root: folder that the file names start from.
        options: everything else that the answer depends on; written out with `repr`.
        check: the check; it raises if the data set is not sound.

    Returns:
        (answer, whether it is of an earlier run).
    """
    try:
        entry = cache_folder() / f"{_key(json_file, image_root, options)}.json"
        known = _read(entry, image_root)
    except (OSError, RuntimeError) as error:  # no such file; or no home folder is known
        logger.debug("the cache of checks cannot be used: %s", error)
        return check(), False
    if known is not None:
        return known, True
    summary = check()
    _write(entry, summary, image_root)
    return summary, False


def _key(
    json_file: str | os.PathLike[str],
    image_root: str | os.PathLike[str],
    options: dict[str, object],
) -> str:
    content = hashlib.sha256()
    with open(json_file, "rb") as file:
        while block := file.read(_BLOCK):
            content.update(block)
    parts = {
        "version": _VERSION,
        "json": [os.fspath(json_file), content.hexdigest()],
        "root": os.path.abspath(image_root),
        "options": {name: repr(value) for name, value in options.items()},
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _stamp(files: Iterable[str], image_root: str | os.PathLike[str]) -> str:
    """A hash of the names, sizes and times of all image files."""
    digest, root = hashlib.sha256(), os.fspath(image_root)
    for name in files:
        found = os.stat(os.path.join(root, name))
        digest.update(f"{name!r} {found.st_size} {found.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _read(entry: Path, image_root: str | os.PathLike[str]) -> CocoSummary | None:
    """The answer that is kept, if the images are what they were."""
    if not entry.is_file():
        return None
    try:
        kept = json.loads(entry.read_bytes())
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in kept["summary"].items()
        }
        summary = CocoSummary(**values)
        same = kept["images"] == _stamp(summary.files, image_root)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        logger.debug("%s is of no use, so all is checked again: %s", entry, error)
        return None
    return summary if same else None


def _write(entry: Path, summary: CocoSummary, image_root: str | os.PathLike[str]) -> None:
    """Keeps an answer; what cannot be kept is checked again next time."""
    try:
        kept = {"summary": asdict(summary), "images": _stamp(summary.files, image_root)}
        entry.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=entry.parent, delete=False) as file:
            json.dump(kept, file)
        os.replace(file.name, entry)
    except OSError as error:
        logger.debug("%s cannot be written, so all is checked again next time: %s", entry, error)
