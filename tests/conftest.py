"""Fixtures and rules for all tests: reference data beside the repository, threads, GPU tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from shared_data import REPOSITORY, SHARED_VARIABLE, shared_folder


def pytest_configure() -> None:
    """One thread: the tensors are small, and sums do not depend on the machine then."""
    os.environ.setdefault("MPLBACKEND", "Agg")
    try:
        import torch
    except ImportError:
        return
    torch.set_num_threads(1)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests marked ``gpu`` where torch sees no CUDA device."""
    if item.get_closest_marker("gpu") is None:
        return
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache folder of the tests' own: what users keep in theirs is neither read nor changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the repository."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with reference data (``data/``, ``golden/``); without it the test is skipped."""
    folder = shared_folder()
    if folder is None:
        pytest.skip(f"no reference data beside the repository (or set {SHARED_VARIABLE} to it)")
    return folder
