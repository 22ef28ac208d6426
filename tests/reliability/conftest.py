"""A folder with the tiny scenes."""

from __future__ import annotations

from pathlib import Path

import pytest
from interrupted import train


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six tiny scenes."""
    from tiny_detector import write_scenes

    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder)
    return folder


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, scenes: Path) -> Path:
    """What a run leaves that never stopped."""
    out = tmp_path_factory.mktemp("undisturbed")
    train(out, scenes)
    return out
