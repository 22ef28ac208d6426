"""The installer of detectron2: mends, checksum, what it leaves alone, what the wheel holds."""

from __future__ import annotations

import email
import hashlib
import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"
INSTALLER = TOOLS / "install_detectron2.py"
PROJECT_FOLDERS = ("PointRend/point_rend", "DeepLab/deeplab", "Panoptic-DeepLab/panoptic_deeplab")


def load(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


installer = load(INSTALLER, "install_detectron2_under_test")


def run_installer(*arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the installer as a user does, with the folder ``path`` first on the import path."""
    environment = {**os.environ, "PYTHONPATH": str(path) if path else ""}
    command = [sys.executable, str(INSTALLER), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def fake_detectron2(folder: Path, init: str) -> Path:
    """A package called detectron2 with the parts that the installer imports."""
    package = folder / "detectron2"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(init)
    for part in ("model_zoo", "data", "evaluation", "engine"):
        (package / f"{part}.py").write_text("")
    return folder


def fake_archive_tree(root: Path) -> Path:
    """A source tree in which every mend of the real archive fits."""
    package = root / "detectron2"
    for mend in installer.MENDS:
        path = package / mend.file
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write("".join(f"# {mend.old.rstrip()}\n" for _ in range(mend.count)))
        (path.parent / "__init__.py").touch()
    (package / "__init__.py").write_text('__version__ = "0.5"\n')
    (package / "data" / "transforms" / "__init__.py").touch()
    zoo = package / "model_zoo"
    (zoo / "configs" / "common").mkdir(parents=True)
    (zoo / "__init__.py").touch()
    (zoo / "configs" / "common" / "train.py").write_text("train = {}\n")
    (zoo / "configs" / "Base.yaml").write_text("VERSION: 2\n")
    for name in PROJECT_FOLDERS:
        (root / "projects" / name).mkdir(parents=True)
        (root / "projects" / name / "__init__.py").touch()
    (package / "projects").mkdir()
    (package / "projects" / "__init__.py").touch()
    (root / "tests").mkdir()
    (root / "tests" / "__init__.py").touch()
    (root / "setup.py").write_text("raise SystemExit('compiles, and fails')\n")
    return root


def wheel_names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def wheel_metadata(wheel: Path) -> email.message.Message:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_string(archive.read(name).decode())


MEND = installer.Mend("part/file.py", "np.int)", "int)", 2, "a reason")


def test_a_mend_replaces_every_occurrence_and_says_so(tmp_path, capsys):
    (tmp_path / "part").mkdir()
    (tmp_path / "part/file.py").write_text("a(np.int); b(np.int); c(np.int32)\n")
    installer.apply_mends(tmp_path, (MEND,))
    assert (tmp_path / "part/file.py").read_text() == "a(int); b(int); c(np.int32)\n"
    assert "part/file.py" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["a(int); b(int)\n", "a(np.int)\n", "a(np.int)" * 3])
def test_a_mend_that_does_not_fit_stops_and_changes_nothing(tmp_path, text):
    (tmp_path / "part").mkdir()
    (tmp_path / "part/file.py").write_text(text)
    with pytest.raises(installer.InstallError, match=r"part/file\.py does not fit.*2 time"):
        installer.apply_mends(tmp_path, (MEND,))
    assert (tmp_path / "part/file.py").read_text() == text


def test_a_mend_of_a_file_that_is_not_there_stops(tmp_path):
    with pytest.raises(installer.InstallError, match="no such file"):
        installer.apply_mends(tmp_path, (MEND,))


def test_checksum(tmp_path):
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(b"content")
    right = hashlib.sha256(b"content").hexdigest()
    installer.check_sha256(archive, right)
    archive.write_bytes(b"content.")
    with pytest.raises(installer.InstallError, match=rf"a\.tar\.gz.*expected {right}"):
        installer.check_sha256(archive, right)


@pytest.mark.parametrize("arguments", [(), ("--from", "/there/is/no/such/source")])
def test_a_working_detectron2_is_left_alone(tmp_path, arguments):
    folder = fake_detectron2(tmp_path, '__version__ = "9.9"\n')
    done = run_installer(*arguments, path=folder)
    assert done.returncode == 0, done.stderr
    assert "detectron2 9.9 works, left alone" in done.stdout
    assert str(folder) in done.stdout


def test_a_broken_detectron2_is_reported_not_replaced(tmp_path):
    folder = fake_detectron2(tmp_path, "import a_module_that_nobody_has\n")
    done = run_installer(path=folder)
    assert done.returncode == 1
    assert "No module named 'a_module_that_nobody_has'" in done.stderr
    assert "--force" in done.stderr and str(folder) in done.stderr
    assert "Traceback" not in done.stderr


def test_from_hands_a_source_to_pip(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "setup.py").write_text(
        "from setuptools import setup\nsetup(name='detectron2', version='7.1', py_modules=[])\n"
    )
    done = run_installer("--from", str(source), "--wheel", str(tmp_path / "wheels"))
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "wheels").iterdir()] == [
        "detectron2-7.1-py3-none-any.whl"
    ]


def test_a_source_that_pip_refuses_is_an_error_with_its_words(tmp_path):
    missing = tmp_path / "nothing_here"
    done = run_installer("--from", str(missing), "--wheel", str(tmp_path / "wheels"))
    assert done.returncode == 1
    assert "nothing_here" in done.stderr and "Traceback" not in done.stderr


def test_the_mended_tree_becomes_a_pure_python_wheel(tmp_path):
    root = fake_archive_tree(tmp_path / "tree")
    wanted = {
        path.relative_to(root).as_posix()
        for path in (root / "detectron2").rglob("*")
        if path.is_file()
    }
    wanted |= {f"detectron2/projects/{name.split('/')[1]}/__init__.py" for name in PROJECT_FOLDERS}
    installer.make_pure_python(root)
    wheel = installer.build_wheel(str(root), tmp_path / "wheels")
    assert wheel.name == "detectron2-0.5-py3-none-any.whl"
    assert wheel_names(wheel) == wanted | {"detectron2/_C.py"}
    metadata = wheel_metadata(wheel)
    required = " ".join(metadata.get_all("Requires-Dist", []))
    for name in ("torch", "fvcore", "omegaconf<2.4", "hydra-core", "pycocotools", "setuptools<81"):
        assert name in required
    assert "black" not in required


def test_a_tree_that_already_has_c_is_refused(tmp_path):
    root = fake_archive_tree(tmp_path)
    (root / "detectron2" / "_C.py").write_text("")
    with pytest.raises(installer.InstallError, match="_C"):
        installer.make_pure_python(root)


def test_the_stand_in_has_no_op_and_says_what_to_do():
    stand_in = load(TOOLS / "detectron2_pure" / "_C.py", "detectron2_stand_in_under_test")
    assert not hasattr(stand_in, "COCOevalEvaluateImages")
    with pytest.raises(AttributeError, match=r"'deform_conv_forward'.*--from"):
        stand_in.deform_conv_forward()
    # detectron2's report on the environment, printed at every start, calls these three
    assert "pure Python" in stand_in.get_compiler_version()
    assert "pure Python" in stand_in.get_cuda_version()
    assert stand_in.has_cuda() is False


@pytest.mark.slow
def test_the_registry_copy_downloads_fits_and_builds(tmp_path):
    done = run_installer("--wheel", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("  mended ") == len(installer.MENDS)
    wheel = next(tmp_path.glob("*.whl"))
    assert wheel.name == "detectron2-0.5-py3-none-any.whl"
    names = wheel_names(wheel)
    assert all(name.startswith("detectron2/") for name in names)
    assert {
        "detectron2/_C.py",
        "detectron2/engine/train_loop.py",
        "detectron2/model_zoo/configs/common/train.py",
        "detectron2/model_zoo/configs/COCO-Detection/retinanet_R_50_FPN_1x.yaml",
    } <= names
    assert wheel_metadata(wheel)["Version"] == "0.5"
