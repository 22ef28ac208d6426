"""``python -m ms_detr.doctor`` on whole, incomplete and broken installations."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ms_detr import doctor

PROJECTS = Path(doctor.__file__).resolve().parents[1]


def run_doctor(
    *options: str, first: Path | None = None, **variables: str
) -> tuple[int, dict[str, tuple[str, str, str]]]:
    """Run the doctor in a process of its own.

    Args:
        options: options of the interpreter.
        first: a folder to be searched for modules before all others.
        variables: environment variables.

    Returns:
        Its exit status, and the table: item -> (state, found, mend).
    """
    paths = [*([str(first)] if first else []), str(PROJECTS)]
    # What the caller has on the path (another detectron2, say) is kept, unless -S drops all.
    if "-S" not in options and os.environ.get("PYTHONPATH"):
        paths.append(os.environ["PYTHONPATH"])
    environment = {**os.environ, **variables, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, *options, "-m", "ms_detr.doctor"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert "Traceback" not in done.stderr + done.stdout
    rows: dict[str, tuple[str, str, str]] = {}
    last = ""
    for line in done.stdout.split("\n\n")[0].splitlines():
        mend = re.match(r"\s+mend: (.*)", line)
        if mend:
            rows[last] = (*rows[last][:2], mend[1])
            continue
        parts = re.match(r"(\S.*?)\s{2,}(ok|note|MISSING)\s+(.*)", line)
        assert parts, f"not a row of the table: {line!r}"
        last = parts[1]
        rows[last] = (parts[2], parts[3], "")
    return done.returncode, rows


def package(folder: Path, name: str, text: str, **modules: str) -> Path:
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(text)
    for module, content in modules.items():
        (folder / name / f"{module}.py").write_text(content)
    return folder


def test_the_environment_of_the_tests_is_whole():
    import detectron2
    import torch

    status, rows = run_doctor()
    assert status == 0, rows
    assert {"Python", "torch", "CUDA", "nvcc", "gcc", "g++", "detectron2", "detectron2._C"} <= set(
        rows
    )
    assert rows["torch"][1].startswith(torch.__version__)
    assert (
        rows["detectron2"][1] == f"{detectron2.__version__} at {Path(detectron2.__file__).parent}"
    )
    assert rows["attention (cpu)"][0] in ("ok", "note")


def test_without_anything_installed_it_names_every_command():
    status, rows = run_doctor("-S")  # no site-packages: the standard library alone
    assert status == 1
    for item in ("torch", "torchvision", "detectron2", *doctor.LIBRARIES.values()):
        state, found, mend = rows[item]
        assert (state, found) == ("MISSING", "not installed"), item
        assert mend.startswith("python ")
    assert rows["detectron2"][2] == "python tools/install_detectron2.py"
    assert "scipy" in rows["scipy"][2]
    assert rows["attention op"] == ("note", "not looked at: it needs torch", "")


def test_a_torch_that_does_not_load_is_shown_with_its_words(tmp_path):
    folder = package(tmp_path, "torch", "raise OSError('libcudart.so.99: cannot open')\n")
    status, rows = run_doctor(first=folder)
    assert status == 1
    assert rows["torch"][:2] == ("MISSING", "does not work: OSError: libcudart.so.99: cannot open")
    assert "torch torchvision" in rows["torch"][2]


def test_a_detectron2_that_does_not_import(tmp_path):
    folder = package(tmp_path, "detectron2", "raise RuntimeError('undefined symbol: abc')\n")
    status, rows = run_doctor(first=folder)
    assert status == 1
    state, found, mend = rows["detectron2"]
    assert (state, found) == ("MISSING", "does not work: RuntimeError: undefined symbol: abc")
    assert mend == "python tools/install_detectron2.py"
    assert rows["torch"][0] == "ok"


def test_a_detectron2_that_lacks_a_library_names_the_library(tmp_path):
    folder = package(tmp_path, "detectron2", "import yacs_is_absent\n")
    status, rows = run_doctor(first=folder)
    assert status == 1
    assert rows["detectron2"][1] == "lacks the module yacs_is_absent"


PARTS = {"model_zoo": "", "data": "", "evaluation": "", "engine": ""}


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({}, "No module named 'detectron2._C'"),
        ({"_C": ""}, "pure Python"),
        ({"_C": "raise ImportError('undefined symbol')"}, "undefined symbol"),
    ],
)
def test_whether_detectron2_has_its_compiled_part(tmp_path, extra, words):
    folder = package(tmp_path, "detectron2", '__version__ = "3.2"\n', **PARTS, **extra)
    _, rows = run_doctor(first=folder)
    assert rows["detectron2"][1] == f"3.2 at {folder / 'detectron2'}"
    state, found, mend = rows["detectron2._C"]
    assert state == "note" and words in found and "--from" in mend


def test_which_attention_is_active_and_why():
    status, rows = run_doctor(MS_DETR_DISABLE_COMPILED="1")
    assert status == 0
    state, found, mend = rows["attention (cpu)"]
    assert state == "note" and found.startswith("pytorch: ")
    assert mend == "unset MS_DETR_DISABLE_COMPILED"


def test_the_mend_is_shown_only_where_something_is_to_mend():
    text = doctor.table(
        [
            doctor.Row("a", doctor.OK, "fine", "never shown"),
            doctor.Row("long name", doctor.MISSING, "gone", "fetch it"),
        ]
    )
    assert text.splitlines() == [
        "a          ok       fine",
        "long name  MISSING  gone",
        "                    mend: fetch it",
    ]
