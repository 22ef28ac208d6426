"""What can be wrong with a checkpoint that is to be converted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, converted or written."""


class UnsafeCheckpointError(CheckpointError):
    """A file that would run code, or build objects that a checkpoint does not need."""


class KeysError(CheckpointError):
    """Keys that are left over, or that are missing.

    Attributes:
        left_over: keys of the checkpoint that belong to no part of the model, sorted.
        missing: keys that the model needs and the checkpoint lacks, sorted.
    """

    def __init__(
        self, left_over: Iterable[str], missing: Iterable[str], state: Mapping, mend: str
    ) -> None:
        self.left_over = tuple(sorted(left_over))
        self.missing = tuple(sorted(missing))
        lines = ["the keys of the checkpoint are not those of a model that can be converted"]
        if self.left_over:
            lines.append(f"  left over ({len(self.left_over)}):")
            lines += [f"    {key} {_shape(state[key])}" for key in self.left_over]
        if self.missing:
            lines.append(f"  missing ({len(self.missing)}):")
            lines += [f"    {key}" for key in self.missing]
        lines.append(f"  mend: {mend}")
        super().__init__("\n".join(lines))


def _shape(value: object) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else f"({type(value).__name__})"
