"""Log files on a disk that is full."""

from __future__ import annotations

import contextlib
import logging
import sys
from functools import partial

_LOGGERS = ("detectron2", "fvcore", "ms_detr")


def tolerate_full_disk() -> None:
    """Gives a log file up that cannot be written, with one line on stderr.

    Python would print a traceback for every line that is logged from then on, and bury the
    message that ends the run. What is logged still goes to the screen.
    """
    for name in _LOGGERS:
        for handler in logging.getLogger(name).handlers:
            stream = getattr(handler, "stream", None)
            if stream not in (None, sys.stdout, sys.stderr):
                handler.handleError = partial(_give_up, handler)  # type: ignore[method-assign]


def _give_up(handler: logging.StreamHandler, record: logging.LogRecord) -> None:
    error = sys.exc_info()[1]
    if not isinstance(error, OSError) and not handler.stream.closed:
        logging.Handler.handleError(handler, record)  # a wrong call of the logger
        return
    handler.setLevel(logging.CRITICAL + 1)
    if not handler.stream.closed:  # detectron2's loggers share it
        sys.stderr.write(f"{handler.stream.name} cannot be written: {error}\n")
        # What is in its buffer would fail again when it is closed at exit.
        with contextlib.suppress(OSError, AttributeError):
            handler.stream.buffer.raw.close()
