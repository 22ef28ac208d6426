"""Errors that name what is wrong, where, and the mend."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence


class ConfigError(ValueError):
    """A configuration (file, override, value or combination of values) that cannot be run."""


class OutputError(RuntimeError):
    """Something of a run could not be written: a full disk, a directory that is gone, no rights.

    Args:
        what: what was to be written, "the checkpoint".
        path: the file or folder.
        error: what the system said.
    """

    def __init__(self, what: str, path: str | os.PathLike[str], error: OSError) -> None:
        self.path = os.fspath(path)
        folder = os.path.dirname(self.path) or "."
        mend = (
            "What was saved before is still there; mend: make room, then go on with --resume"
            if os.path.isdir(folder)
            else f"The folder {folder!r} is gone; mend: bring it back, then go on with --resume"
        )
        super().__init__(
            f"{what} {self.path!r} cannot be written: {error.strerror or error}. {mend}"
        )


class NonFiniteError(FloatingPointError):
    """A loss, a gradient or a prediction became NaN or infinite.

    The code that first sees the value raises it with what it knows (a matcher knows the
    layer, the trainer knows the loss terms); :meth:`located` adds the iteration and the images
    once the error passes through the trainer, and the text then says what can be done.

    Args:
        message: what was not finite.
        terms: names and values of the non-finite loss terms, ``"<supervision>/<layer>/<term>"``.
        parameters: names of the first parameters with a non-finite gradient.
    """

    def __init__(
        self,
        message: str,
        *,
        terms: Mapping[str, float] | None = None,
        parameters: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.terms = dict(terms or {})
        self.parameters = tuple(parameters)
        self.while_matching = False
        self.iteration: int | None = None
        self.images: tuple[str, ...] = ()

    def located(self, iteration: int, images: Sequence[str]) -> NonFiniteError:
        """Adds the iteration and the images of the batch, and returns the same error."""
        self.iteration = iteration
        self.images = tuple(images)
        return self

    def __str__(self) -> str:
        lines = [self.message]
        if self.while_matching:
            lines.append("  found while predictions were matched to objects, before any loss term")
        lines += [f"  {describe_term(name)}: {value}" for name, value in self.terms.items()]
        lines += [f"  gradient of {name}" for name in self.parameters]
        if self.iteration is not None:
            lines.append(f"  iteration {self.iteration}, images of the batch:")
            lines += [f"    {image}" for image in self.images] or ["    (none named)"]
            lines.append(
                "  mend: lower optimizer.lr; with mixed precision (fp16, bf16) try "
                "train.amp.enabled=false; look at the images named and at their boxes"
            )
        return "\n".join(lines)


class NonFiniteElsewhere(NonFiniteError):
    """The same in another process, which raises a :class:`NonFiniteError` that knows the images."""


def describe_term(name: str) -> str:
    """Spells a loss name out: ``mixed/3/giou`` is supervision mixed, layer 3, term giou."""
    parts = name.split("/")
    if len(parts) != 3:
        return f"loss {name}"
    return f"supervision {parts[0]}, layer {parts[1]}, term {parts[2]}"
