"""The versions of the tools are the same wherever they are written down."""

from __future__ import annotations

import re

import yaml


def pins(text: str) -> dict[str, str]:
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[^=\s]+", line) for line in lines), lines
    named = [line.lower().split("==") for line in lines]
    assert len({name for name, _ in named}) == len(named), "a package is pinned twice"
    return dict(named)


def test_pre_commit_uses_the_pinned_versions(repository):
    constraints = pins((repository / "constraints.txt").read_text())
    config = yaml.safe_load((repository / ".pre-commit-config.yaml").read_text())
    used = [
        requirement
        for repo in config["repos"]
        for hook in repo["hooks"]
        for requirement in hook["additional_dependencies"]
    ]
    assert used
    for requirement in used:
        name, version = requirement.lower().split("==")
        assert constraints[name] == version, f".pre-commit-config.yaml: {requirement}"


def test_every_development_tool_is_pinned(repository):
    constraints = pins((repository / "constraints.txt").read_text())
    lines = (repository / "requirements-dev.txt").read_text().splitlines()
    names = {line.strip().lower() for line in lines if line and not line.startswith("#")}
    assert names <= set(constraints), names - set(constraints)
