"""Errors of one image while it is loaded, with the name of the image."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from typing import Any

from detectron2.data import DatasetMapper
from PIL import Image

from .errors import DatasetError

__all__ = ["BoxMapper", "naming"]

# What Pillow, numpy and augmentations raise for a picture that they cannot use.
_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, MemoryError,
    AssertionError, struct.error, Image.DecompressionBombError,
)  # fmt: skip


@contextlib.contextmanager
def naming(record: dict[str, Any]) -> Iterator[None]:
    """Whatever goes wrong with a record inside becomes a `DatasetError` that names its image."""
    try:
        yield
    except DatasetError:
        raise
    except _ERRORS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DatasetError(
            f"image {record.get('image_id')} ({record.get('file_name')}): cannot be read or "
            f"augmented: {reason}; mend: look at the file (python tools/check_dataset.py), then "
            "replace it, take it out of the json, or change the augmentations"
        ) from error


class BoxMapper(DatasetMapper):
    """detectron2's mapper of a record to an image with its boxes; errors name the image."""

    def __call__(self, dataset_dict: dict[str, Any]) -> Any:
        with naming(dataset_dict):
            return super().__call__(dataset_dict)
