"""Checkpoints of the official code to ours and back."""

from .checks import check_same
from .converter import Converted, to_official, to_ours
from .errors import CheckpointError, KeysError, UnsafeCheckpointError
from .families import FAMILIES
from .files import (
    OfficialCheckpoint,
    check_output,
    load_official,
    load_ours,
    save_official,
    save_ours,
)
from .layout import Layout
from .names import name_pairs
from .settings import Settings

__all__ = [
    "FAMILIES",
    "CheckpointError",
    "Converted",
    "KeysError",
    "Layout",
    "OfficialCheckpoint",
    "Settings",
    "UnsafeCheckpointError",
    "check_output",
    "check_same",
    "load_official",
    "load_ours",
    "name_pairs",
    "save_official",
    "save_ours",
    "to_official",
    "to_ours",
]
