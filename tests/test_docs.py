"""What the documents name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    "docs/architecture.md",
    "docs/checkpoints.md",
    "docs/op.md",
    "docs/reproduce.md",
    "docs/results.md",
]
PLACES = ("", "projects", "projects/ms_detr", "configs", "docs")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_files_and_links_exist(repository: Path, name: str) -> None:
    text = (repository / name).read_text()
    paths = set(re.findall(r"[\w./-]+/[\w.-]+\.(?:py|md|jpg|png)\b", text))
    links = set(re.findall(r"\]\((?!http)([^)#]+)\)", text))
    for path in sorted(paths - links):
        made = path.startswith("output/")
        assert made or any((repository / place / path).exists() for place in PLACES), path
    for link in links:
        assert (repository / name).parent.joinpath(link).exists(), link


@pytest.mark.parametrize("name", DOCUMENTS)
def test_nothing_is_left_to_fill_in(repository: Path, name: str) -> None:
    text = (repository / name).read_text()
    assert not re.search(r"^[A-Z_]{4,}$", text, re.MULTILINE)


def test_make_targets_exist(repository: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (repository / "Makefile").read_text(), re.MULTILINE))
    for name in DOCUMENTS:
        text = (repository / name).read_text()
        named = set(re.findall(r"(?:`|^    )make ([a-z-]+)", text, re.MULTILINE))
        assert named <= targets, named - targets
