"""Life with and without the compiled extension, each case in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TRAIN_TWICE = """
import warnings
import torch
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from ms_detr.ops import implementation, ms_deform_attn
    active = implementation("cpu")
    assert not caught, caught  # asking which it is does not warn
    for _ in range(2):
        value = torch.ones(1, 1, 1, 2, requires_grad=True)
        output = ms_deform_attn(
            value, ((1, 1),), torch.full((1, 3, 1, 1, 1, 2), 0.5), torch.ones(1, 3, 1, 1, 1)
        )
        output.sum().backward()
        assert output.tolist() == [[[1.0, 1.0]] * 3] and value.grad.flatten().tolist() == [3.0, 3.0]
print(active.name, "|", active.reason, "|", active.mend)
print("\\n".join(str(w.message) for w in caught if "ms_deform_attn" in str(w.message)))
"""
NOT_BUILT = "import sys; sys.modules['ms_detr._C'] = None\n"
UNLOADABLE = """
import sys
class Broken:
    def find_spec(self, name, path=None, target=None):
        if name == "ms_detr._C":
            raise ImportError("undefined symbol: xyz")
sys.meta_path.insert(0, Broken())
"""


def run(code, **environment):
    clean = {k: v for k, v in os.environ.items() if k != "MS_DETR_DISABLE_COMPILED"}
    path = os.pathsep.join([str(ROOT / "projects"), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**clean, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "before, environment, reason, mend",
    [
        ("", {"MS_DETR_DISABLE_COMPILED": "1"}, "switched off", "unset MS_DETR_DISABLE_COMPILED"),
        (NOT_BUILT, {}, "was not built", "pip install --no-build-isolation -e ."),
        (UNLOADABLE, {}, "undefined symbol: xyz", "pip install --no-build-isolation -e ."),
    ],
    ids=["switched_off", "not_built", "unloadable"],
)
def test_works_without_it_and_warns_once(before, environment, reason, mend):
    done = run(before + TRAIN_TWICE, **environment)
    assert done.returncode == 0, done.stderr
    active, *warned = done.stdout.strip().splitlines()
    assert active.startswith("pytorch") and reason in active and active.endswith(mend)
    assert len(warned) == 1
    assert reason in warned[0] and warned[0].endswith(mend)


@pytest.mark.usefixtures("needs_compiled")
def test_no_warning_with_it():
    done = run(TRAIN_TWICE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "compiled | ms_detr._C has a kernel for cpu | None"


def test_setting_that_is_neither_0_nor_1():
    done = run("import ms_detr.ops", MS_DETR_DISABLE_COMPILED="yes")
    assert done.returncode != 0
    assert "MS_DETR_DISABLE_COMPILED='yes'" in done.stderr


def test_devices_without_kernels():
    done = run("from ms_detr.ops import implementation as i; print(i('mps')); print(i('cuda'))")
    mps, cuda = done.stdout.strip().splitlines()
    assert "'pytorch'" in mps and "mend=None" in mps
    assert "'compiled'" in cuda or "FORCE_CUDA=1 pip install" in cuda


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads in /proc")
@pytest.mark.usefixtures("needs_compiled")
def test_loops_run_in_parallel():
    """Compiled without OpenMP, at::parallel_for would start no thread, without a word."""
    done = run("""
import os, torch
torch.set_num_threads(1)
from ms_detr.ops import ms_deform_attn
value = torch.randn(2, 64, 4, 32)
locations, weights = torch.rand(2, 500, 4, 1, 4, 2), torch.rand(2, 500, 4, 1, 4)
torch.set_num_threads(3)
before = len(os.listdir("/proc/self/task"))
ms_deform_attn(value, ((8, 8),), locations, weights)
print(len(os.listdir("/proc/self/task")) - before)
""")
    assert done.stdout.strip() == "2", done.stderr


@pytest.mark.parametrize("name", ["FORCE_CUDA", "MS_DETR_BUILD_EXT", "DEBUG"])
def test_setup_refuses_settings_it_does_not_know(name):
    done = subprocess.run(
        [sys.executable, "setup.py", "--version"],
        cwd=ROOT,
        env={**os.environ, name: "maybe"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert f"{name}='maybe'" in done.stderr
