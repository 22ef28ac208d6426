"""Where the repository and the reference data beside it are."""

from __future__ import annotations

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED_VARIABLE = "MS_DETR_SHARED"


def shared_folder() -> Path | None:
    """The folder with reference data (``data/``, ``golden/``); None if it is not there."""
    folder = Path(os.environ.get(SHARED_VARIABLE) or REPOSITORY.parent / "shared")
    return folder if folder.is_dir() else None
