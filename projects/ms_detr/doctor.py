"""``python -m ms_detr.doctor``: what is installed, what is missing, and the command that mends it.

It has to work where nothing else does. So nothing outside the standard library is imported at the
top of this file, and a check that fails becomes a line of the table, never a traceback.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

OK, NOTE, MISSING = "ok", "note", "MISSING"

SETUP = "make setup"
INSTALL_TORCH = "python -m pip install -c constraints.txt torch torchvision"
INSTALL_DETECTRON2 = "python tools/install_detectron2.py"
# import name -> name in the package registry
LIBRARIES = {
    "numpy": "numpy",
    "scipy": "scipy",
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "matplotlib": "matplotlib",
    "pycocotools": "pycocotools",
    "fvcore": "fvcore",
    "iopath": "iopath",
    "omegaconf": "omegaconf",
    "hydra": "hydra-core",
    "tensorboard": "tensorboard",
}


def _install(name: str) -> str:
    return f"python -m pip install -c constraints.txt {name}"


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        item: what was looked at.
        state: ``OK``; ``NOTE``, something optional is missing; ``MISSING``, needed to run.
        found: what there is, in words.
        mend: the command that changes it, or an empty string.
    """

    item: str
    state: str
    found: str
    mend: str = ""


def _reason(error: BaseException) -> str:
    """Type and first line of an error, short enough for a table."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:200]


def _first_line(command: list[str], containing: str = "") -> str | None:
    """The first line of a program's output that contains a text, or None if the program fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    lines = [line.strip() for line in done.stdout.splitlines() if containing in line]
    return lines[0] if done.returncode == 0 and lines else None


def check_python() -> Iterable[Row]:
    """Version of this Python and where it is."""
    yield Row("Python", OK, f"{platform.python_version()} at {sys.executable}")


def check_torch() -> Iterable[Row]:
    """torch: version and where it is."""
    import torch

    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    where = f"{torch.__version__} at {Path(torch.__file__).parent}"
    if version < (2, 4):
        yield Row("torch", MISSING, f"{where}; 2.4 or newer is needed", INSTALL_TORCH)
    else:
        yield Row("torch", OK, where)


def check_torchvision() -> Iterable[Row]:
    """torchvision: its compiled operations only load beside the torch that they were built for."""
    import torchvision

    yield Row("torchvision", OK, str(torchvision.__version__))


def check_cuda() -> Iterable[Row]:
    """The CUDA version that torch was built with, and the devices that it sees."""
    import torch

    if torch.version.cuda is None:
        yield Row("CUDA", NOTE, "this torch is built for the CPU only", INSTALL_TORCH)
        return
    built = f"torch is built with CUDA {torch.version.cuda}"
    if not torch.cuda.is_available():
        yield Row(
            "CUDA",
            NOTE,
            f"{built}; no device visible: runs on the CPU",
            "nvidia-smi (shows driver and GPU)",
        )
        return
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    yield Row("CUDA", OK, f"{built}; {len(names)} device(s): {', '.join(sorted(set(names)))}")


def check_nvcc() -> Iterable[Row]:
    """The CUDA compiler, needed to build the CUDA kernels; of the major version of torch's CUDA."""
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    inside = str(Path(home or "/usr/local/cuda") / "bin" / "nvcc")
    nvcc = shutil.which(inside if home else "nvcc") or shutil.which(inside)
    torch = sys.modules.get("torch")  # check_torch imported it if it can be
    wanted: str | None = torch.version.cuda if torch else None
    toolkit = f"install the CUDA toolkit{f' {wanted}' if wanted else ''}: https://developer.nvidia.com/cuda-downloads"
    if nvcc is None:
        yield Row("nvcc", NOTE, "not found; needed only to build the CUDA kernels", toolkit)
        return
    line = _first_line([nvcc, "--version"], "release")
    if line is None:
        yield Row("nvcc", NOTE, f"{nvcc} does not run", toolkit)
        return
    version = line.split("release")[1].split(",")[0].strip()
    if wanted and version.split(".")[0] != wanted.split(".")[0]:
        yield Row(
            "nvcc", NOTE, f"{version} at {nvcc}, but torch is built with CUDA {wanted}", toolkit
        )
    else:
        yield Row("nvcc", OK, f"{version} at {nvcc}")


def check_compiler() -> Iterable[Row]:
    """The C++ compiler and Python's headers, which building the extension needs."""
    for item, program in (
        ("gcc", os.environ.get("CC", "gcc")),
        ("g++", os.environ.get("CXX", "g++")),
    ):
        line = _first_line([program, "--version"])
        if line is None:
            yield Row(item, NOTE, "not found; needed to build the extension", "apt-get install g++")
        else:
            yield Row(item, OK, line)
    if not Path(sysconfig.get_paths()["include"], "Python.h").exists():
        yield Row(
            "Python.h",
            NOTE,
            "not found; needed to build the extension",
            "apt-get install python3-dev",
        )


def check_libraries() -> Iterable[Row]:
    """The other libraries: one line for all that import, one for each that does not."""
    good = []
    for module, name in LIBRARIES.items():
        mend = _install(name)
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name == module:
                yield Row(name, MISSING, "not installed", mend)
            else:
                yield Row(name, MISSING, _reason(error), mend)
        except Exception as error:  # whatever a broken library raises is what the user needs to see
            yield Row(name, MISSING, f"does not import: {_reason(error)}", mend)
        else:
            good.append(f"{name} {_version_of(name)}".strip())
    if good:
        yield Row("libraries", OK, ", ".join(good))


def _version_of(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def check_detectron2() -> Iterable[Row]:
    """detectron2: version, place, whether what is used here imports, whether it is compiled."""
    import detectron2

    for part in ("model_zoo", "data", "evaluation", "engine"):
        importlib.import_module(f"detectron2.{part}")
    where = Path(str(detectron2.__file__)).parent
    yield Row(
        "detectron2", OK, f"{getattr(detectron2, '__version__', 'unknown version')} at {where}"
    )
    source = f"{INSTALL_DETECTRON2} --force --from <source> (if you need its compiled operations)"
    try:
        compiled = importlib.import_module("detectron2._C")
    except Exception as error:  # a library built for another torch can raise anything
        yield Row("detectron2._C", NOTE, f"not there ({_reason(error)}); not needed here", source)
        return
    if str(compiled.__file__).endswith(".py"):
        yield Row("detectron2._C", NOTE, "not there (pure Python); not needed here", source)
    else:
        yield Row("detectron2._C", OK, f"its own, {compiled.__file__}")


def check_op() -> Iterable[Row]:
    """Which implementation of the attention operation each device gets, and why."""
    import torch

    from ms_detr import ops

    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        active = ops.implementation(device)
        state = NOTE if active.mend else OK
        yield Row(
            f"attention ({device})", state, f"{active.name}: {active.reason}", active.mend or ""
        )


# In the order of the table; the command is the mend if the check itself fails.
CHECKS: tuple[tuple[str, Callable[[], Iterable[Row]], str], ...] = (
    ("Python", check_python, SETUP),
    ("torch", check_torch, INSTALL_TORCH),
    ("torchvision", check_torchvision, INSTALL_TORCH),
    ("CUDA", check_cuda, INSTALL_TORCH),
    ("nvcc", check_nvcc, ""),
    ("g++", check_compiler, ""),
    ("libraries", check_libraries, SETUP),
    ("detectron2", check_detectron2, INSTALL_DETECTRON2),
    ("attention op", check_op, "make build"),
)
NEEDS_TORCH = ("torchvision", "CUDA", "detectron2", "attention op")


def _without_torch(item: str, mend: str) -> Row:
    """The row of something that cannot be looked at because torch is missing or broken."""
    if item in ("torchvision", "detectron2") and importlib.util.find_spec(item) is None:
        return Row(item, MISSING, "not installed", mend)
    return Row(item, NOTE, "not looked at: it needs torch")


def examine() -> list[Row]:
    """Run every check; one that raises gives a ``MISSING`` row with the error and what to try."""
    rows: list[Row] = []
    for item, check, mend in CHECKS:
        if item in NEEDS_TORCH and any(r.item == "torch" and r.state == MISSING for r in rows):
            rows.append(_without_torch(item, mend))
            continue
        try:
            rows.extend(check())
        except ModuleNotFoundError as error:
            known = error.name in LIBRARIES
            advice = _install(LIBRARIES[str(error.name)]) if known else mend
            absent = "not installed" if error.name == item else f"lacks the module {error.name}"
            rows.append(Row(item, MISSING, absent, advice))
        except Exception as error:  # the doctor reports what is broken, whatever it raises
            rows.append(Row(item, MISSING, f"does not work: {_reason(error)}", mend))
    return rows


def table(rows: list[Row]) -> str:
    """The rows as text: item, state and finding, and below it the command that mends it."""
    left = max(len(row.item) for row in rows)
    middle = max(len(row.state) for row in rows)
    lines = []
    for row in rows:
        lines.append(f"{row.item:<{left}}  {row.state:<{middle}}  {row.found}")
        if row.mend and row.state != OK:
            lines.append(f"{'':<{left}}  {'':<{middle}}  mend: {row.mend}")
    return "\n".join(lines)


def main() -> int:
    """Print the table. Return 0 if the project can run here, 1 if something needed is missing."""
    rows = examine()
    print(table(rows))
    missing = [row.item for row in rows if row.state == MISSING]
    print()
    if missing:
        print(f"ms_detr cannot run here: {', '.join(missing)}.")
        print(f"Run the commands above, or `{SETUP}` for all.")
        return 1
    print("ms_detr can run here.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
