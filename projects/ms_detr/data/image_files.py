"""Whether image files can be read, wholly, and have the size that the json states."""

from __future__ import annotations

import io
import os
import stat
import struct
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from .errors import Defects

__all__ = ["check_image_files"]

_EXIF_ORIENTATION = 274
_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap width and height
_JPEG_END = b"\xff\xd9"
_NO_DATA = (127, 128)  # what a JPEG decoder makes of blocks that are not there
_DEEP = ("I", "F")  # modes of more than 8 bits; converted to RGB, values above 255 become white
_BATCH = 4096


def check_image_files(
    images: list[dict],
    image_root: str | os.PathLike[str],
    defects: Defects,
    *,
    image_key: str = "image_root",
    workers: int | None = None,
) -> None:
    """Notes every file that is missing, unreadable, truncated, of another size or too deep.

    Every file is decoded, most JPEGs at an eighth of their size. A JPEG that was cut and given an
    end mark again decodes without an error, to grey below the cut: it is found too. Bytes that were
    changed in the middle of a JPEG are not.

    Args:
        images: entries of the json with "id", "file_name", "width", "height".
        image_root: folder that the file names start from.
        defects: where to note what is wrong.
        image_key: what a message calls the setting of `image_root`.
        workers: threads that read files; None is one more than there are cores, up to 32.
    """
    root = os.fspath(image_root)

    def examine(entry: dict) -> tuple[str, str] | None:
        path = os.path.join(root, entry["file_name"])
        return _path_defect(path, image_key) or _defect_of(path, entry["width"], entry["height"])

    with warnings.catch_warnings():
        # Pillow warns of large images and of odd metadata; what matters is a defect below
        warnings.simplefilter("ignore")
        with ThreadPoolExecutor(workers or min(32, (os.cpu_count() or 1) + 1)) as pool:
            for start in range(0, len(images), _BATCH):
                batch = images[start : start + _BATCH]
                for entry, found in zip(batch, pool.map(examine, batch)):
                    if found is not None:
                        path = os.path.join(root, entry["file_name"])
                        defects.add(f"image {entry['id']} ({path})", *found)


def _path_defect(path: str, image_key: str) -> tuple[str, str] | None:
    """(what, mend) of a path at which there is no file with content; a pipe is not opened."""
    try:
        found = os.stat(path)
    except (OSError, ValueError) as error:
        reason = "the file does not exist"
        if os.path.lexists(path):
            reason = f"the file cannot be reached ({getattr(error, 'strerror', error)})"
        elif not isinstance(error, FileNotFoundError):
            reason = f"the file does not exist ({getattr(error, 'strerror', None) or error})"
        return reason, f"correct {image_key} or file_name, or drop the entry"
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe or a device"
        return f"this is {kind}, not a file", "correct file_name, or drop the entry"
    if found.st_size == 0:
        return "the file is empty", "copy the file again, or drop the entry"
    return None


def _defect_of(path: str, width: int, height: int) -> tuple[str, str] | None:
    """Returns (what, mend) of an existing file, or None if it is in order."""
    again = "copy or export the file again"
    try:
        with Image.open(path) as image:
            sides, mode = image.size, image.mode
            if _orientation(image) in _SIDEWAYS:
                sides = sides[::-1]  # detectron2 turns the picture the same way when it loads it
            whole = _decodes_wholly(image, path)
    except UnidentifiedImageError:
        return "the file is not an image that Pillow can read", "replace the file"
    except PermissionError as error:
        return f"the file cannot be read ({error.strerror})", "correct its permissions"
    except Image.DecompressionBombError as error:
        return (
            f"the file is too large ({error})",
            "reduce its size; Pillow reads no image of so many pixels",
        )
    except (OSError, SyntaxError, ValueError, struct.error, MemoryError) as error:
        return f"the file cannot be read to its end ({error})", again
    if not whole:
        return "the file cannot be read to its end (data end before its end mark)", again
    if sides != (width, height):
        return (
            f"the file is {sides[0]} x {sides[1]} pixels (EXIF orientation applied), "
            f"but the json says {width} x {height}",
            "correct width and height (and the boxes, if they refer to the other size)",
        )
    if mode.startswith(_DEEP):
        return (
            f"the file has more than 8 bits per pixel (Pillow's mode {mode}), and reading it as "
            "RGB would make all above 255 white",
            "convert it to 8 bits per channel, scaled as the task needs",
        )
    return None


def _orientation(image: Image.Image) -> int | None:
    try:
        return image.getexif().get(_EXIF_ORIENTATION)
    except (OSError, SyntaxError, ValueError, TypeError, LookupError, struct.error):
        return None  # detectron2 does not turn such a picture either


def _decodes_wholly(image: Image.Image, path: str) -> bool:
    """Decodes the picture; false for a JPEG whose data end early, and other errors are raised."""
    if image.format not in ("JPEG", "MPO"):
        image.load()
        return True
    if "progressive" not in image.info:
        image.draft("L", (1, 1))
        image.load()
        corner = image.getpixel((image.width - 1, image.height - 1))
        values = corner if isinstance(corner, tuple) else (corner,)
        if not all(value in _NO_DATA for value in values):
            return True
    return _ignores_more_data(Path(path).read_bytes())


def _ignores_more_data(data: bytes) -> bool:
    """Whether a JPEG stays the same with data added before its end mark, as a whole one does."""
    end = data.rfind(_JPEG_END)
    longer = data[:end] + b"\xa5" * 64 + data[end:]
    first, second = (np.asarray(Image.open(io.BytesIO(content))) for content in (data, longer))
    return np.array_equal(first, second)
