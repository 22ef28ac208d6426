"""Workers of loaders, and signals that are sent to a whole group of processes."""

from __future__ import annotations

import signal
from typing import Any

from torch.utils.data import DataLoader

__all__ = ["OutliveStop", "keep_workers"]


class OutliveStop:
    """A ``worker_init_fn`` with which a loader's worker lives on when the whole group is signalled.

    The main process decides when to stop, and needs batches until then. A worker that is still
    there after ``GRACE`` seconds ends by itself.

    Args:
        then: the loader's own ``worker_init_fn``, called with the worker's number.
    """

    GRACE = 30

    def __init__(self, then: Any = None) -> None:
        self.then = then

    def __call__(self, worker: int) -> None:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(self.GRACE))
        if self.then is not None:
            self.then(worker)


def keep_workers(loader: Any) -> Any:
    """Gives a torch loader workers that outlive a signal to the group; returns the loader."""
    if isinstance(loader, DataLoader):
        loader.worker_init_fn = OutliveStop(loader.worker_init_fn)
    return loader
