"""What a profile of a step reads at every boundary between two parts: clocks and memory."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any, Protocol, cast

import torch
from torch.autograd.profiler import profile, record_function

MIB = 2**20
_MARK = "ms_detr profile mark "


class Meter(Protocol):
    """Reads something at boundaries; an interval lies between two of them."""

    def mark(self) -> None:
        """A boundary is passed now."""

    def finish(self) -> list[float]:
        """One value per interval, after the last boundary."""


class HostClock:
    """Milliseconds of every interval, for computation on the CPU."""

    def __init__(self) -> None:
        self._times: list[float] = []

    def mark(self) -> None:
        self._times.append(time.perf_counter())

    def finish(self) -> list[float]:
        return [1e3 * (after - before) for before, after in pairwise(self._times)]


class DeviceClock:
    """Milliseconds of every interval on the GPU's time line.

    The device is waited for before the first boundary and after the last one, not in between: what
    overlaps in a step that is not looked at overlaps here too.
    """

    def __init__(self) -> None:
        torch.cuda.synchronize()
        self._events: list[torch.cuda.Event] = []

    def mark(self) -> None:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self._events.append(event)

    def finish(self) -> list[float]:
        torch.cuda.synchronize()
        return [before.elapsed_time(after) for before, after in pairwise(self._events)]


class HostMemory:
    """MiB of tensors in every interval, at most, beyond those at the first boundary; on the CPU.

    PyTorch's profiler reports every allocation from here on. It knows the size of what is freed
    only if it saw it allocated, so one of these should have run during the step before.
    """

    def __init__(self) -> None:
        self._profile = profile(profile_memory=True, use_kineto=True)
        self._profile.__enter__()
        self._closed = False
        self._marks = 0

    def mark(self) -> None:
        with record_function(f"{_MARK}{self._marks}"):
            self._marks += 1

    def close(self) -> None:
        """Stop looking; `finish` does it too."""
        if not self._closed:
            self._closed = True
            self._profile.__exit__(None, None, None)

    def finish(self) -> list[float]:
        self.close()
        seen = cast(Any, self._profile.kineto_results).events()
        level = 0
        peaks: list[int] = []
        for event in sorted(seen, key=lambda event: event.start_ns()):
            if event.name().startswith(_MARK):
                peaks.append(level)
            elif event.name() == "[memory]" and peaks:
                level += event.nbytes()
                peaks[-1] = max(peaks[-1], level)
        return [peak / MIB for peak in peaks[:-1]]


class DeviceMemory:
    """MiB of tensors in every interval, at most, beyond those at the first boundary; on the GPU.

    It uses the counter of `torch.cuda.max_memory_allocated`, which then tells the largest value
    since the last boundary, not since the process began.
    """

    def __init__(self) -> None:
        self._before = 0
        self._peaks: list[int] = []

    def mark(self) -> None:
        self._peaks.append(torch.cuda.max_memory_allocated())
        if len(self._peaks) == 1:
            self._before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()

    def close(self) -> None:
        """Nothing goes on between the boundaries."""

    def finish(self) -> list[float]:
        return [(peak - self._before) / MIB for peak in self._peaks[1:]]
