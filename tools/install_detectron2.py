#!/usr/bin/env python3
"""Install detectron2 into the Python that runs this file.

The package registry holds no package called ``detectron2``. It holds one copy of release 0.5
(``detectron2-cdo``), whose Python files are those of upstream's tag v0.5 but whose C++ sources are
missing, so that a plain ``pip install`` of it fails. So:

1. a detectron2 that works is left alone (``--force`` replaces it);
2. with ``--from SOURCE`` pip installs a source of yours: a folder, an archive, a git address;
3. otherwise the registry's archive is downloaded, its checksum compared, the mends below are
   applied to the unpacked copy, and the result is installed as ``detectron2`` 0.5.

torch, torchvision, setuptools and wheel must be installed first (``make setup`` does it in order).
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import importlib.util
import json
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

ARCHIVE_NAME = "detectron2-cdo"
ARCHIVE_VERSION = "0.5"
ARCHIVE_SHA256 = "53c9e79e9cc943e80419c588ea44b5479507a8628ed14a4e06bd093e29311b18"

TEMPLATES = Path(__file__).resolve().parent / "detectron2_pure"


class InstallError(RuntimeError):
    """Something the user has to know about; the message says what to do."""


@dataclass(frozen=True)
class Mend:
    """A replacement in the unpacked copy: ``old`` must occur ``count`` times in ``file``."""

    file: str
    old: str
    new: str
    count: int
    why: str


_NUMPY = "removed in NumPy 1.24"
MENDS = (
    Mend(
        "data/transforms/transform.py", "Image.LINEAR", "Image.BILINEAR", 1, "removed in Pillow 10"
    ),
    Mend("data/build.py", "dtype=np.int\n", "dtype=int\n", 1, _NUMPY),
    Mend("data/build.py", "dtype=np.int)", "dtype=int)", 1, _NUMPY),
    Mend("evaluation/sem_seg_evaluation.py", "dtype=np.int)", "dtype=int)", 2, _NUMPY),
    Mend("evaluation/sem_seg_evaluation.py", "dtype=np.float)", "dtype=float)", 2, _NUMPY),
    Mend("evaluation/sem_seg_evaluation.py", "astype(np.float)", "astype(float)", 3, _NUMPY),
    # np.bool came back in NumPy 2.0 as another type; the built-in means the same in every version.
    Mend("evaluation/pascal_voc_evaluation.py", "astype(np.bool)", "astype(bool)", 2, _NUMPY),
    Mend("structures/masks.py", "astype(np.bool)", "astype(bool)", 1, _NUMPY),
    Mend("structures/masks.py", "dtype=np.bool)", "dtype=bool)", 1, _NUMPY),
    Mend("utils/visualizer.py", "astype(np.bool)", "astype(bool)", 3, _NUMPY),
    Mend("utils/video_visualizer.py", "dtype=np.bool)", "dtype=bool)", 1, _NUMPY),
)

_PROBE = dedent(
    """\
    import importlib, importlib.util, json, sys
    found = importlib.util.find_spec("detectron2")
    report = {"where": None, "version": None, "error": None}
    if found is not None:
        report["where"] = found.origin
        try:
            for name in ("", ".model_zoo", ".data", ".evaluation", ".engine"):
                importlib.import_module("detectron2" + name)
            report["version"] = getattr(sys.modules["detectron2"], "__version__", "unknown")
        except Exception as error:
            report["error"] = f"{type(error).__name__}: {error}"
    print("PROBE" + json.dumps(report))
    """
)


@dataclass(frozen=True)
class Found:
    """What importing detectron2 in a fresh process gave. ``where`` is None if there is none."""

    where: str | None
    version: str | None
    error: str | None

    @property
    def works(self) -> bool:
        return self.version is not None and self.error is None


def probe() -> Found:
    """Import detectron2 and the parts used here in a fresh process, outside this folder."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE], cwd=folder, capture_output=True, text=True
        )
    for line in done.stdout.splitlines():
        if line.startswith("PROBE"):
            return Found(**json.loads(line[len("PROBE") :]))
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    return Found("unknown", None, f"Python stopped with code {done.returncode}: {last}")


def pip(*arguments: str) -> None:
    """Run pip quietly; raise InstallError with its output if it fails."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise InstallError(
            f"pip {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}".rstrip()
        )


def check_sha256(archive: Path, expected: str) -> None:
    """Raise InstallError unless the SHA-256 of ``archive`` is ``expected`` (hexadecimal)."""
    actual = hashlib.sha256(archive.read_bytes()).hexdigest()
    if actual != expected:
        raise InstallError(
            f"{archive.name} has sha256 {actual}, expected {expected}: the mends were written for "
            "another archive. Empty pip's cache (pip cache purge), try again, or use --from SOURCE."
        )


def apply_mends(package: Path, mends: tuple[Mend, ...]) -> None:
    """Apply the mends to the folder ``package``; raise InstallError at the first that misses."""
    for mend in mends:
        path = package / mend.file
        if not path.is_file():
            raise InstallError(f"mend of {mend.file} does not fit: there is no such file.")
        text = path.read_text(encoding="utf-8")
        if text.count(mend.old) != mend.count:
            raise InstallError(
                f"mend of {mend.file} does not fit: expected {mend.old!r} {mend.count} time(s), "
                f"found it {text.count(mend.old)} time(s)."
            )
        path.write_text(text.replace(mend.old, mend.new), encoding="utf-8")
        print(f"  mended {mend.file}: {mend.old.strip()} -> {mend.new.strip()} ({mend.why})")


def make_pure_python(root: Path) -> None:
    """Turn the unpacked archive at ``root`` into a source tree that installs without a compiler."""
    apply_mends(root / "detectron2", MENDS)
    if (root / "detectron2" / "_C.py").exists():
        raise InstallError("the archive already has detectron2/_C.py, which would be overwritten.")
    shutil.copy(TEMPLATES / "_C.py", root / "detectron2" / "_C.py")
    print("  added detectron2/_C.py: names the way out when a compiled operation is asked for")
    for name in ("setup.cfg", "PKG-INFO"):
        (root / name).unlink(missing_ok=True)
    for folder in root.glob("*.egg-info"):
        shutil.rmtree(folder)
    shutil.copy(TEMPLATES / "setup.py", root / "setup.py")
    print("  replaced setup.py: compiles nothing; asks for what this version really needs")


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack ``archive`` into ``folder`` and return the single directory it holds."""
    with tarfile.open(archive) as tar:
        if hasattr(tarfile, "data_filter"):
            tar.extractall(folder, filter="data")
        else:  # Python before 3.11.4; the checksum vouches for the content
            tar.extractall(folder)
    return next(path for path in folder.iterdir() if path.is_dir())


def build_from_registry(target: Path) -> Path:
    """Download, check, mend and build; return the path of the wheel in ``target``."""
    missing = [n for n in ("torch", "setuptools", "wheel") if importlib.util.find_spec(n) is None]
    if missing:
        raise InstallError(
            f"{', '.join(missing)} must be installed before detectron2: "
            "python -m pip install -c constraints.txt torch torchvision 'setuptools<81' wheel ninja"
        )
    with tempfile.TemporaryDirectory(prefix="detectron2-") as name:
        folder = Path(name)
        requirement = f"{ARCHIVE_NAME}=={ARCHIVE_VERSION}"
        print(f"downloading {requirement} from the package registry")
        options = ("--no-deps", "--no-build-isolation", "--no-binary", ARCHIVE_NAME)
        pip("download", "--quiet", *options, "--dest", str(folder), requirement)
        archive = next(folder.glob("*.tar.gz"))
        check_sha256(archive, ARCHIVE_SHA256)
        root = unpack(archive, folder / "source")
        make_pure_python(root)
        return build_wheel(str(root), target)


def build_wheel(source: str, target: Path) -> Path:
    """Build a wheel of ``source`` in ``target`` (made if need be) and return its path."""
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="detectron2-wheel-") as name:
        pip("wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", name, source)
        wheel = next(Path(name).glob("*.whl"))
        return Path(shutil.copy(wheel, target))


def refuse_to_replace(found: Found) -> None:
    """Raise InstallError if there is a detectron2 that does not work: it is the user's to judge.

    What an interrupted installation left in this environment (files that no package owns) is not
    worth asking about: installing again completes it.
    """
    if found.where is None:
        return
    in_this_environment = Path(sysconfig.get_paths()["purelib"]) in Path(found.where).parents
    if in_this_environment and not list(importlib.metadata.distributions(name="detectron2")):
        return
    raise InstallError(
        f"there is a detectron2 at {found.where}, but it does not work: {found.error}\n"
        "Install what it lacks, or replace it: python tools/install_detectron2.py --force"
    )


def install(source: str | None, constraint: str | None) -> None:
    """Install ``source``, or the mended registry copy if it is None, over whatever is there."""
    limits = ("--constraint", constraint) if constraint else ()
    with tempfile.TemporaryDirectory(prefix="detectron2-wheel-") as name:
        wheel = build_wheel(source, Path(name)) if source else build_from_registry(Path(name))
        # First its requirements, then the package itself, replaced even if the version is the same.
        pip("install", "--quiet", *limits, str(wheel))
        pip("install", "--quiet", "--no-deps", "--force-reinstall", str(wheel))
    found = probe()
    if not found.works:
        raise InstallError(
            f"installed, but detectron2 does not import: {found.error or 'not found'}"
        )
    print(f"detectron2 {found.version} is installed at {found.where}")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Install detectron2 into this Python.")
    parser.add_argument("--from", dest="source", metavar="SOURCE", help="anything pip can install")
    parser.add_argument("--wheel", metavar="DIR", help="only build the wheel, into DIR")
    parser.add_argument("--constraint", "-c", metavar="FILE", help="versions for its requirements")
    parser.add_argument("--force", action="store_true", help="replace a detectron2 that is there")
    options = parser.parse_args(argv)
    try:
        if options.wheel:
            target = Path(options.wheel)
            made = (
                build_wheel(options.source, target)
                if options.source
                else build_from_registry(target)
            )
            print(f"wheel: {made}")
            return 0
        if not options.force:
            found = probe()
            if found.works:
                print(f"detectron2 {found.version} works, left alone: {found.where}")
                return 0
            refuse_to_replace(found)
        install(options.source, options.constraint)
    except InstallError as error:
        print(f"install_detectron2: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
