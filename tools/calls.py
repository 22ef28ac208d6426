"""Counts the calls of PyTorch's operators, and those for which the host waits for the device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

# Operators whose result, or its size, only the device knows.
_WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2", "is_nonzero"}


class Calls(TorchDispatchMode):
    """Counts operators.  Values for the host come from nowhere where tensors have none.

    On the device "meta" a tensor has no values, so that nobody can look at one unnoticed; copies to
    the host, which are counted, hold random numbers.

    Attributes:
        all: number of calls, views included.
        by_name: the same by name.
        waits: number of those that wait for the device.
        to_device: number of copies from the host.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits = self.to_device = 0
        self.by_name: Counter[str] = Counter()

    @property
    def all(self) -> int:
        return sum(self.by_name.values())

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.removeprefix("aten::")
        self.by_name[name] += 1
        if name in ("index", "index_put", "index_put_", "_index_put_impl_"):
            masks = [i for i in args[1] if i is not None and i.dtype == torch.bool]
            self.waits += bool(masks)
        self.waits += name in _WAITING
        if name == "_to_copy" and kwargs.get("device") is not None:
            device = torch.device(kwargs["device"])
            if device.type == "cpu" and args[0].device.type != "cpu":
                self.waits += 1
                if args[0].is_meta:
                    return torch.rand(args[0].shape, dtype=args[0].dtype)
            self.to_device += device.type != "cpu" and args[0].device.type == "cpu"
        return func(*args, **kwargs)


class Reads(TorchFunctionMode):
    """Counts ``.cpu()``, which on a CPU is no call of an operator."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        self.waits += func is Tensor.cpu
        return func(*args, **(kwargs or {}))


def calls_of(work: Callable[[], object]) -> Calls:
    """The calls of some work, with ``.cpu()`` among those that wait."""
    with Reads() as reads, Calls() as calls:
        work()
    calls.waits += reads.waits
    return calls
