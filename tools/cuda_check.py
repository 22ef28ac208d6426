"""Compile the CUDA kernels and look at the result; no GPU is needed.

Builds the extension with FORCE_CUDA=1 into build/cuda-check, away from the one in use, imports it
(that works without a GPU), and checks that it has CPU and CUDA kernels of every operator. On a
machine with a GPU, the tests marked ``gpu`` say whether they compute the right thing. Usage: python
tools/cuda_check.py
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "cuda-check"
# Run in a process of its own: defines the operators without the installed extension, then loads the
# one just built.
CHECK = """
import importlib.machinery, importlib.util, sys
import ms_detr.ops
import torch
loader = importlib.machinery.ExtensionFileLoader("ms_detr._C", sys.argv[1])
loader.create_module(importlib.util.spec_from_loader("ms_detr._C", loader))
missing = [
    f"{name} on {key}"
    for operator in ("ms_deform_attn", "fused_deform_attn")
    for name in (operator, f"{operator}_backward")
    for key in ("CPU", "CUDA")
    if not torch._C._dispatch_has_kernel_for_dispatch_key(f"ms_detr::{name}", key)
]
if missing:
    sys.exit("missing kernels: " + ", ".join(missing))
print("imported; CPU and CUDA kernels of both operators are there:", sys.argv[1])
"""


def build(arch_list: str) -> Path:
    """Build the extension anew and return its path.

    Raises:
        subprocess.CalledProcessError: it did not build; the compiler said why.
    """
    shutil.rmtree(FOLDER, ignore_errors=True)
    environment = {
        "MAX_JOBS": "2",
        **os.environ,
        "FORCE_CUDA": "1",
        "TORCH_CUDA_ARCH_LIST": arch_list,
    }
    command = [sys.executable, "setup.py", "build_ext"]
    command += ["--build-lib", str(FOLDER / "lib"), "--build-temp", str(FOLDER / "temp")]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    return next((FOLDER / "lib" / "ms_detr").glob("_C*"))


def main() -> int:
    """Build, import, report; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--arch-list",
        default=os.environ.get("TORCH_CUDA_ARCH_LIST", "9.0"),
        help="GPU architectures, as in TORCH_CUDA_ARCH_LIST (default: that variable, else 9.0)",
    )
    arguments = parser.parse_args()
    try:
        library = build(arguments.arch_list)
    except subprocess.CalledProcessError as error:
        print("cuda-check: the extension did not build (see above)", file=sys.stderr)
        return error.returncode
    environment = {
        **os.environ,
        "MS_DETR_DISABLE_COMPILED": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT / "projects"), os.environ.get("PYTHONPATH", "")]),
    }
    done = subprocess.run(
        [sys.executable, "-c", CHECK, str(library)], env=environment, cwd=FOLDER, check=False
    )
    print(f"cuda-check ({arguments.arch_list}): {'passed' if done.returncode == 0 else 'FAILED'}")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
