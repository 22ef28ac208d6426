"""Fixtures and rules for all tests: reference data beside the repository, threads, GPU tests."""

from __future__ import annotations

import os
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
