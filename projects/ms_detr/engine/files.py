"""Files that are either whole or not there, and errors of the disk in words."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from ..errors import OutputError

logger = logging.getLogger(__name__)

_MARK = ".tmp-"  # between the name of a file that is being written and the number of its process


@contextmanager
def output_errors(what: str, path: str | os.PathLike[str]) -> Iterator[None]:
    """Turns an ``OSError`` of the body into an :class:`OutputError` about ``what`` and ``path``."""
    try:
        yield
    except OSError as error:
        raise OutputError(what, path, error) from error
    except RuntimeError as error:
        # torch.save hides the system's error behind one of its zip writer.
        cause = _system_error(error)
        if cause is None:
            raise
        raise OutputError(what, path, cause) from error


def _system_error(error: BaseException) -> OSError | None:
    """The ``OSError`` during whose handling ``error`` was raised, if there was one."""
    context = error.__context__
    while context is not None and not isinstance(context, OSError):
        context = context.__context__
    return context


def write_atomically(
    path: str | os.PathLike[str], write: Callable[[IO[bytes]], object], what: str
) -> None:
    """Writes a file so that at every moment the old content or the new one is there, whole.

    The content goes to a temporary file beside the target, reaches the disk, and takes the
    target's name in one step; then the change of the name reaches the disk too.

    Args:
        path: the file.
        write: writes the content to the binary file that it is given.
        what: what is written, for the message: "the checkpoint".

    Raises:
        OutputError: the system refuses. The temporary file is gone, the target as it was.
    """
    folder, name = os.path.split(os.fspath(path))
    temporary = os.path.join(folder, f"{name}{_MARK}{os.getpid()}")
    with output_errors(what, path):
        try:
            with open(temporary, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
    _sync_folder(folder or ".")


def _sync_folder(folder: str) -> None:
    # Some network file systems cannot do it; the file itself is safe by then.
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_text_atomically(path: str | os.PathLike[str], text: str, what: str) -> None:
    """:func:`write_atomically` for a text, in UTF-8."""
    write_atomically(path, lambda file: file.write(text.encode()), what)


def remove_leftovers(folder: str | os.PathLike[str]) -> None:
    """Deletes temporary files that a killed run left in its output directory."""
    for path in Path(folder).glob(f"*{_MARK}*"):
        if path.name.rpartition(_MARK)[2].isdigit():
            path.unlink(missing_ok=True)
            logger.info("%s: left over by a killed run, deleted", path)
