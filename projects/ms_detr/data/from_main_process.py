"""One process looks, and all get the answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from detectron2.utils import comm

from .errors import DatasetError

__all__ = ["from_main_process"]


def from_main_process(look: Callable[[], Any]) -> Any:
    """Calls `look` in the main process; all others wait, and return or raise the same.

    Every process of a run has to call it. The answer must be one that pickle can send.

    Raises:
        DatasetError: as `look` does in the main process. Whatever else it raises there becomes
            one in the others, so that none waits for ever.
    """
    if comm.get_world_size() == 1:
        return look()
    answer: tuple[Any, str | None] | None = None
    failure: Exception | None = None
    if comm.is_main_process():
        try:
            answer = (look(), None)
        except Exception as error:
            answer, failure = (None, f"{error}" or type(error).__name__), error
    found, message = comm.all_gather(answer)[0]
    if failure is not None:
        raise failure
    if message is not None:
        raise DatasetError(message)
    return found
