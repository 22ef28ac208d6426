"""Memory that is freed stays with the process."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

PROJECTS = Path(__file__).resolve().parent.parent / "projects"
# Page faults of ten tensors of 64 MB, one after the other; then whether the library said yes.
FAULTS = """
import resource, sys
sys.path.insert(0, {path!r})
import torch
from ms_detr.host_memory import keep_freed_memory
took = {call}
for _ in range(10):
    torch.zeros(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.zeros(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, took)
"""


def faults(call: str) -> list[str]:
    script = FAULTS.format(path=str(PROJECTS), call=call)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_freed_memory_is_used_again():
    fresh, _ = faults("None")
    kept, took = faults("keep_freed_memory()")
    assert took == "True"
    assert int(fresh) > 1000  # pages of 4 kB, or some of 2 MB
    assert int(kept) < int(fresh) / 20
