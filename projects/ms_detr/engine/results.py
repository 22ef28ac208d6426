"""``results.json``: the last evaluation, and how many iterations were done by then."""

from __future__ import annotations

import json
import logging
import math
import os
from pathlib import Path
from typing import Any

from .files import write_text_atomically

logger = logging.getLogger(__name__)

Results = dict[str, Any]


def save_results(path: str | os.PathLike[str], results: Results, iteration: int | None) -> None:
    """Writes the results; a metric that is not defined (no such object) becomes null.

    The file holds "iteration", "metrics", and "ema" where averaged weights were evaluated too.

    Args:
        path: the json file.
        results: as an evaluator returns them, ``{"bbox": {"AP": ...}}``.
        iteration: iterations done, or None if these are weights from elsewhere.

    Raises:
        OutputError: the file cannot be written; an older one is as it was.
    """

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(inner) for name, inner in value.items()}
        number = float(value)
        return number if math.isfinite(number) else None

    content: dict[str, Any] = {"iteration": iteration, "metrics": plain(dict(results))}
    if "ema" in content["metrics"]:
        content["ema"] = content["metrics"].pop("ema")
    write_text_atomically(path, json.dumps(content, indent=2), "the results")
    logger.info("results are in %s", path)


def read_results(path: str | os.PathLike[str], iteration: int) -> Results | None:
    """The results saved for ``iteration``, null again NaN; None if there are none."""

    def undefined(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: undefined(inner) for name, inner in value.items()}
        return float("nan") if value is None else value

    try:
        content = json.loads(Path(path).read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or content.get("iteration") != iteration:
        return None
    metrics = content.get("metrics")
    if not isinstance(metrics, dict):
        return None
    return undefined(metrics | ({"ema": content["ema"]} if "ema" in content else {}))
