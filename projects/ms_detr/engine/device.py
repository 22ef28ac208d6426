"""Where a run computes, and in which precision."""

from __future__ import annotations

import os
import warnings

import torch

from ..errors import ConfigError

AMP_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_device(name: str) -> torch.device:
    """Turns ``train.device`` into a device; "auto" is the GPU if there is one, else the CPU.

    Raises:
        ConfigError: an unknown device, or CUDA asked for where it is not available.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise ConfigError(f"train.device={name!r}: use auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"train.device={name!r}: use auto, cpu, cuda or cuda:N")
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise ConfigError(
                f"train.device={name!r}, but PyTorch sees {count} CUDA devices; "
                f"set train.device=auto or train.device=cpu"
            )
    return device


def resolve_amp(enabled: bool, dtype: str, device: torch.device) -> torch.dtype | None:
    """The type that autocast computes in on ``device``, or None without mixed precision.

    Raises:
        ConfigError: a type that is not "bf16" or "fp16", or that the device cannot compute in.
    """
    if dtype not in AMP_DTYPES:
        raise ConfigError(f"train.amp.dtype={dtype!r}: use one of {', '.join(AMP_DTYPES)}")
    if not enabled:
        return None
    wanted = AMP_DTYPES[dtype]
    if device.type == "cuda":
        supported = dtype != "bf16" or torch.cuda.is_bf16_supported()
    else:
        with warnings.catch_warnings():
            # Older versions turn autocast off with a warning instead of raising.
            warnings.simplefilter("ignore")
            with torch.autocast(device.type, dtype=wanted):
                supported = torch.is_autocast_enabled(device.type)
    if not supported:
        other = next(name for name in AMP_DTYPES if name != dtype)
        raise ConfigError(
            f"train.amp.dtype={dtype!r} is not supported on {device.type} here; "
            f"set train.amp.dtype={other} or train.amp.enabled=false"
        )
    return wanted


def compute_deterministically(wanted: bool) -> None:
    """Makes PyTorch compute the same bits from the same numbers, for the rest of the process.

    To be called before the first computation on a GPU: cuBLAS reads its setting only once. What
    PyTorch cannot compute so raises a RuntimeError that names the operator when it is reached.

    Args:
        wanted: False leaves everything as it is.
    """
    if not wanted:
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
