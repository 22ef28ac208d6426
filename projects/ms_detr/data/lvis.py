"""What LVIS needs beside COCO: its package."""

from __future__ import annotations

import importlib.util

from .errors import DatasetError

__all__ = ["require_lvis"]


def require_lvis() -> None:
    """Raises `DatasetError` that says how to install the package `lvis` if it is absent."""
    if importlib.util.find_spec("lvis") is None:
        raise DatasetError(
            "LVIS data are read and evaluated with the package lvis, which is not installed; "
            "mend: pip install --no-deps lvis (all that it needs is there; without --no-deps pip "
            "would put a second OpenCV over the one in use)"
        )
