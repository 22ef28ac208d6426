"""Whether image files can be read, wholly, and have the size that the json states."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from .errors import Defects

__all__ = ["check_image_files"]

_EXIF_ORIENTATION = 274
_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap width and height
_TAIL_BYTES = 4096
_END_MARKS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
_BATCH = 4096


def check_image_files(
    images: list[dict],
    image_root: str | os.PathLike[str],
    defects: Defects,
    *,
    image_key: str = "image_root",
    workers: int = 8,
) -> None:
    """Notes every file that is missing, unreadable, truncated or of another size.

    Only headers and the last bytes are read. A JPEG or PNG without its end mark, and any file of
    another format, is decoded to be sure. Damage in the middle of a complete file is not seen.

    Args:
        images: entries of the json with "id", "file_name", "width", "height".
        image_root: folder that the file names start from.
        defects: where to note what is wrong.
        image_key: what a message calls the setting of `image_root`.
        workers: threads that read files.
    """
    root = os.fspath(image_root)

    def examine(entry: dict) -> tuple[str, str] | None:
        path = os.path.join(root, entry["file_name"])
        if not os.path.isfile(path):
            mend = f"correct {image_key} or file_name, or drop the entry"
            return "the file does not exist", mend
        return _defect_of(path, entry["width"], entry["height"])

    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(images), _BATCH):
            batch = images[start : start + _BATCH]
            for entry, found in zip(batch, pool.map(examine, batch)):
                if found is not None:
                    path = os.path.join(root, entry["file_name"])
                    defects.add(f"image {entry['id']} ({path})", *found)


def _defect_of(path: str, width: int, height: int) -> tuple[str, str] | None:
    """Returns (what, mend) of an existing file, or None if it is in order."""
    if os.path.getsize(path) == 0:
        return "the file is empty", "copy the file again, or drop the entry"
    try:
        with Image.open(path) as image:
            sides = image.size
            if image.getexif().get(_EXIF_ORIENTATION) in _SIDEWAYS:
                sides = sides[::-1]  # detectron2 turns the picture the same way when it loads it
            mark = _END_MARKS.get(str(image.format))
            if mark is None or not _tail(path).count(mark):
                image.load()
    except UnidentifiedImageError:
        return "the file is not an image that Pillow can read", "replace the file"
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return f"the file cannot be read to its end ({error})", "copy or export the file again"
    if sides != (width, height):
        return (
            f"the file is {sides[0]} x {sides[1]} pixels (EXIF orientation applied), "
            f"but the json says {width} x {height}",
            "correct width and height (and the boxes, if they refer to the other size)",
        )
    return None


def _tail(path: str) -> bytes:
    with Path(path).open("rb") as file:
        file.seek(max(0, os.path.getsize(path) - _TAIL_BYTES))
        return file.read()
