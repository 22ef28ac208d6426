"""Which implementation of the operators is in use, and why."""

from __future__ import annotations

import importlib
import os
import warnings
from dataclasses import dataclass

import torch

DISABLE = "MS_DETR_DISABLE_COMPILED"
_INSTALL = "pip install --no-build-isolation -e ."
_KEYS = {"cpu": "CPU", "cuda": "CUDA"}  # device types for which kernels were written


@dataclass(frozen=True)
class Implementation:
    """Implementation of the operators that is in use on a type of device.

    Attributes:
        name: "compiled" (kernels of ``ms_detr._C``) or "pytorch" (``ms_detr.ops.reference``).
        reason: why, in a few words.
        mend: command with which the compiled one would be had; None where it is in use or was not
            written.
    """

    name: str
    reason: str
    mend: str | None


def load_extension() -> str | None:
    """Import ``ms_detr._C``, which registers its kernels; returns why not, or None where it was
    imported."""
    setting = os.environ.get(DISABLE, "")
    if setting not in ("", "0", "1"):
        raise ValueError(
            f"environment variable {DISABLE}={setting!r} is not understood; "
            "set it to 0 or 1, or unset it"
        )
    if setting == "1":
        return f"switched off by {DISABLE}=1"
    try:
        importlib.import_module("ms_detr._C")
    except ModuleNotFoundError as error:
        if error.name != "ms_detr._C":
            raise
        return "the extension ms_detr._C was not built"
    except ImportError as error:
        # Built against another torch or Python: not fatal, but never silent (the reason is part of
        # the warning).
        return f"the extension ms_detr._C cannot be loaded ({error}); it must be built anew"
    return None


def implementation(device_type: str = "cpu") -> Implementation:
    """Implementation of ``ms_deform_attn`` that is in use on a type of device.

    Args:
        device_type: as in ``torch.device(..).type``: "cpu", "cuda", ...
    """
    key = _KEYS.get(device_type)
    if key is None:
        return Implementation(
            "pytorch", f"there are no compiled kernels for {device_type} devices", None
        )
    if torch._C._dispatch_has_kernel_for_dispatch_key("ms_detr::ms_deform_attn", key):
        return Implementation("compiled", f"ms_detr._C has a kernel for {device_type}", None)
    mend = f"FORCE_CUDA=1 {_INSTALL}" if device_type == "cuda" else _INSTALL
    if _why_not_loaded is None:
        return Implementation(
            "pytorch", f"ms_detr._C was built without kernels for {device_type}", mend
        )
    if os.environ.get(DISABLE) == "1":
        return Implementation("pytorch", _why_not_loaded, f"unset {DISABLE}")
    return Implementation("pytorch", _why_not_loaded, mend)


def warn_once(device_type: str) -> None:
    """Say, the first time in this process, that the operator runs in PyTorch operations on this
    type of device."""
    if device_type in _warned:
        return
    _warned.add(device_type)
    current = implementation(device_type)
    mend = (
        "" if current.mend is None else f" To mend it, in the folder of the project: {current.mend}"
    )
    warnings.warn(
        f"ms_deform_attn runs in plain PyTorch on {device_type}, slower than compiled: "
        f"{current.reason}.{mend}",
        stacklevel=2,
    )


_warned: set[str] = set()
_why_not_loaded = load_extension()
