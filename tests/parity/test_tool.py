"""``tools/parity.py`` on folders that are not as they should be."""

from __future__ import annotations

import json
import runpy
import sys

import numpy as np
import pytest
from shared_data import REPOSITORY


def empty(folder):
    pass


def lonely_json(folder):
    (folder / "a.json").write_text("{}")


def broken_json(folder):
    (folder / "a.json").write_text("{")
    np.savez(folder / "a.npz")


def lacking_parts(folder):
    (folder / "a.json").write_text(json.dumps({"case": "a", "args": {}}))
    np.savez(folder / "a.npz")


def no_results(folder):
    (folder / "a.json").write_text(json.dumps({"case": "a", "criterion_results": {}}))
    np.savez(folder / "a.npz")


def broken_problems(folder):
    (folder / "matchers.json").write_text("{")
    (folder / "goldengen.py").write_text("")


def no_problems(folder):
    (folder / "matchers.json").write_text("[]")
    (folder / "goldengen.py").write_text("")


def broken_npz(folder):
    (folder / "a.json").write_text("{}")
    (folder / "a.npz").write_bytes(b"PK and no more")


@pytest.mark.parametrize(
    "prepare, message",
    [
        (empty, "holds no case and no matchers.json"),
        (lonely_json, "a: needs both NAME.json and NAME.npz"),
        (broken_json, "cannot be read: Expecting property name"),
        (lacking_parts, "the json lacks 'criterion_results'; it has args, case"),
        (no_results, "criterion_results is empty"),
        (broken_problems, "matchers.json: cannot be read"),
        (no_problems, "matchers.json holds no problem"),
        (broken_npz, "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_one_line_and_code_2(
    tmp_path, prepare, message, monkeypatch, capsys
):
    prepare(tmp_path)
    tool = REPOSITORY / "tools" / "parity.py"
    monkeypatch.setattr(sys, "argv", [str(tool), "--golden", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(tool), run_name="__main__")
    assert ended.value.code == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("parity: ") and message in error
