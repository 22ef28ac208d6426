"""Reading the json of a data set, with errors that say what kind of file it is instead."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from .errors import DatasetError

__all__ = ["read_coco_json"]

_MARKS = {
    b"\xef\xbb\xbf": "UTF-8 with a byte order mark",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}


def read_coco_json(json_file: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a COCO json.

    Raises:
        DatasetError: The file is missing or no file, cannot be read, is not json (for instance
            truncated) in UTF-8, names a key of an object twice, or is not an object.
    """
    path = Path(json_file)
    _check_path(path)
    try:
        data = path.read_bytes()
        _check_encoding(path, data)
        content = json.loads(data, object_pairs_hook=_without_duplicates)
    except DatasetError:
        raise
    except _DuplicateKeyError as error:
        raise DatasetError(
            f"{path}: an object has the key {error.key!r} twice, and readers keep the last only; "
            "mend: merge the two, or remove one"
        ) from error
    except json.JSONDecodeError as error:
        size = path.stat().st_size
        ending = "" if error.doc.rstrip().endswith("}") else " (the file ends too early)"
        raise DatasetError(
            f"{path}: not a complete json{ending}: {error.msg} at line {error.lineno} column "
            f"{error.colno}, {size} bytes; mend: export or copy the file again"
        ) from error
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{path}: cannot be read: it is not UTF-8 ({error.reason} at byte {error.start}); "
            "mend: check that it is a json, and save it as UTF-8"
        ) from error
    except RecursionError as error:
        raise DatasetError(
            f"{path}: lists or objects are nested too deeply to be read; mend: check that it is a "
            "COCO json, whose entries are nested four deep"
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a number of thousands of digits
        raise DatasetError(f"{path}: cannot be read: {error}; mend: check the file") from error
    if not isinstance(content, dict):
        raise DatasetError(
            f"{path}: the json is a {type(content).__name__}, not an object with "
            '"images", "annotations" and "categories"; mend: give a COCO annotation file '
            "(a list is what COCO results look like)"
        )
    return content


class _DuplicateKeyError(ValueError):
    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        raise _DuplicateKeyError(next(name for name in names if names.count(name) > 1))
    return made


def _check_path(path: Path) -> None:
    if path.is_dir():
        raise DatasetError(
            f"{path}: this is a folder, not an annotation file; mend: give the path of the json "
            "in COCO format itself"
        )
    if path.is_file():
        return
    if os.path.lexists(path):
        kind = "a link that leads nowhere" if path.is_symlink() else "a pipe or a device"
        raise DatasetError(f"{path}: this is {kind}, not a file; mend: give the json itself")
    raise DatasetError(
        f"{path}: the annotation file does not exist; mend: correct the path "
        f"(the current folder is {Path.cwd()})"
    )


def _check_encoding(path: Path, data: bytes) -> None:
    """pycocotools, which reads the file again, knows UTF-8 without a mark only."""
    if not data.strip():
        raise DatasetError(
            f"{path}: not a complete json (the file is empty); mend: export or copy the file again"
        )
    for mark, name in _MARKS.items():
        if data.startswith(mark):
            raise DatasetError(
                f"{path}: the file is {name}, which pycocotools cannot read; mend: save it as "
                "UTF-8 without a byte order mark"
            )
    if b"\0" in data[:4]:
        raise DatasetError(f"{path}: the file is UTF-16, UTF-32 or no text; mend: save it as UTF-8")
