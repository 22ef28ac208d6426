"""Build and install ms_detr, with its compiled extension ``ms_detr._C``.

Usual call: ``pip install --no-build-isolation -e .`` (torch must be there first: the extension is
compiled against it).

Environment variables:
    MS_DETR_BUILD_EXT=0   install without the extension; the PyTorch implementation of the op is
                          used then.
    FORCE_CUDA=1 / 0      build the CUDA kernels though no GPU is visible / do not build them though
                          one is.
    TORCH_CUDA_ARCH_LIST  GPU architectures, as torch reads it. Default: those of the visible GPUs,
                          or, where none is visible, DEFAULT_ARCH_LIST below.
    CUDA_HOME             folder of the CUDA toolkit. Default: the folder in which the nvcc on PATH
                          really lies.
    MAX_JOBS              parallel compiler processes.
    DEBUG=1               no optimisation, debug symbols.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
INSTALL = "pip install --no-build-isolation -e ."
# Real code for Turing to Hopper; PTX, so that the driver can compile for later GPUs.
DEFAULT_ARCH_LIST = "7.5;8.0;8.6;8.9;9.0+PTX"


def env_flag(name: str) -> bool | None:
    """Value of a 0/1 environment variable, or None where it is not set."""
    text = os.environ.get(name, "")
    if text not in ("", "0", "1"):
        raise SystemExit(
            f"setup.py: {name}={text!r} is not understood; set it to 0 or 1, or unset it"
        )
    return None if text == "" else text == "1"


def find_cuda_home() -> str | None:
    """Folder of the CUDA toolkit, or None.

    torch takes the folder above the nvcc on PATH, which is wrong where that nvcc is a script that
    starts the real one. nvcc itself knows: in a dry run it prints the folder that it was started
    from.
    """
    given = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    if given:
        return given
    nvcc = shutil.which("nvcc")
    if nvcc is not None:
        # --dryrun only prints the commands; the source named need not exist.
        dry = subprocess.run(
            [nvcc, "--dryrun", "-E", "-x", "cu", os.devnull],
            capture_output=True,
            text=True,
            check=False,
        )
        for line in (dry.stderr + dry.stdout).splitlines():
            name, _, value = line.removeprefix("#$").strip().partition("=")
            if name == "_HERE_" and value:
                return str(Path(value).resolve().parent)
        return str(Path(nvcc).resolve().parent.parent)
    return "/usr/local/cuda" if Path("/usr/local/cuda/bin/nvcc").exists() else None


def wants_cuda(cuda_home: str | None) -> bool:
    """Whether to build the CUDA kernels; says so where a GPU is there and the compiler is not."""
    import torch

    forced = env_flag("FORCE_CUDA")
    if forced is False or (forced is None and not torch.cuda.is_available()):
        return False
    if forced and torch.version.cuda is None:
        raise SystemExit(
            f"setup.py: FORCE_CUDA=1, but torch {torch.__version__} was built without CUDA; "
            "install a CUDA build of torch, or unset FORCE_CUDA"
        )
    if cuda_home is None:
        if forced:
            raise SystemExit(
                "setup.py: FORCE_CUDA=1, but no nvcc was found; install the CUDA toolkit "
                "or set CUDA_HOME"
            )
        print(
            "setup.py: a GPU is visible but no nvcc was found: building without CUDA kernels",
            file=sys.stderr,
        )
        return False
    return True


def library_includes() -> list[str]:
    """Headers of the CUDA libraries (cuSPARSE, cuBLAS, ...) that torch's wheels brought along."""
    site = Path(sysconfig.get_paths()["purelib"]) / "nvidia"
    return [str(path) for path in (site / "cu13" / "include",) if path.is_dir()]


def _files(folder: str, pattern: str) -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for path in (ROOT / "csrc" / folder).glob(pattern))


def extension() -> Any:
    """The extension ``ms_detr._C``: CPU kernels, and CUDA kernels where wanted."""
    try:
        import torch  # noqa: F401  (looked for here, for a better message)
    except ModuleNotFoundError as error:
        raise SystemExit(
            "setup.py: torch is needed to build the extension and was not found. Install torch "
            f"first and then `{INSTALL}`; or set MS_DETR_BUILD_EXT=0 to install without the "
            "extension."
        ) from error
    cuda_home = find_cuda_home()
    with_cuda = wants_cuda(cuda_home)
    if with_cuda and cuda_home is not None:
        os.environ["CUDA_HOME"] = cuda_home  # read by torch.utils.cpp_extension when it is imported
        if not torch.cuda.is_available():
            os.environ.setdefault("TORCH_CUDA_ARCH_LIST", DEFAULT_ARCH_LIST)
    from torch.utils.cpp_extension import CppExtension, CUDAExtension

    debug = bool(env_flag("DEBUG"))
    level = ["-O0", "-g"] if debug else ["-O3"]
    # Without -fopenmp at::parallel_for compiles to a serial loop, without a word.
    openmp = ["-fopenmp"] if sys.platform.startswith("linux") else []
    sources = ["csrc/ms_deform_attn.cpp", *_files("cpu", "*.cpp")]
    host_args = [*level, *openmp, "-Wall", "-Wno-unknown-pragmas"]
    if not with_cuda:
        return CppExtension(
            "ms_detr._C",
            sources,
            include_dirs=[str(ROOT / "csrc")],
            extra_compile_args={"cxx": host_args},
            extra_link_args=openmp,
        )
    return CUDAExtension(
        "ms_detr._C",
        [*sources, *_files("cuda", "*.cu")],
        include_dirs=[str(ROOT / "csrc"), *library_includes()],
        extra_compile_args={"cxx": host_args, "nvcc": [*level, *(["-lineinfo"] if debug else [])]},
        extra_link_args=openmp,
    )


def build_options() -> dict[str, Any]:
    """Arguments of ``setup`` that concern the extension."""
    if env_flag("MS_DETR_BUILD_EXT") is False:
        return {}
    module = extension()
    from torch.utils.cpp_extension import BuildExtension

    return {
        "ext_modules": [module],
        "cmdclass": {"build_ext": BuildExtension},
        # setuptools looks at the age of the sources alone, and would overlook changed headers and
        # flags. ninja, which does the work, looks at all of them, and compiles what has changed.
        "options": {"build_ext": {"force": True}},
    }


setup(
    name="ms_detr",
    version="0.1.0",
    description="MS-DETR: detectors trained with mixed supervision, as a detectron2 project",
    license="Apache-2.0",
    package_dir={"": "projects"},
    packages=find_packages("projects", include=["ms_detr", "ms_detr.*"]),
    # 3.9 is the oldest Python for which torch 2.4 was released; 3.11 is the one that is tested.
    python_requires=">=3.10",
    # detectron2 is needed too, but no registry has it: tools/install_detectron2.py brings it.
    install_requires=[
        "torch>=2.4",
        "torchvision",
        "fvcore",
        "iopath",
        "omegaconf>=2.1,<2.4",
        "hydra-core",
        "pycocotools",
        "scipy",
        "numpy",
        "pillow",
        "matplotlib",
        "tensorboard",
        "cloudpickle",
    ],
    # What tools/benchmark_inference.py compares with.
    extras_require={"benchmarks": ["onnx", "onnxruntime", "openvino"]},
    **build_options(),
)
