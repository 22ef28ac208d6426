"""How the C library treats memory that PyTorch frees on a CPU."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # numbers of glibc's mallopt(3)


def keep_freed_memory() -> bool:
    """Makes the process keep memory that is freed, for the next who asks, instead of returning it.

    Tensors of more than 32 MB would otherwise come as fresh pages of the system every time, which
    it has to fill with zeros first: with batches or images that are large enough for that, a step
    on a CPU takes up to twice as long.  The process then holds what it once needed until it ends.
    It is a setting of the whole process; only glibc knows it.

    Returns:
        whether the C library took it.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is None:
        return False
    return bool(set_option(_MMAP_MAX, 0)) and bool(set_option(_TRIM_THRESHOLD, -1))
