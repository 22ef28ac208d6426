"""The weights of the best evaluation so far."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping

from torch import nn

from ..errors import ConfigError
from .checkpoint import ReportingCheckpointer
from .checkpoint_files import BEST

logger = logging.getLogger(__name__)


class BestWeights:
    """Saves ``model_best.pth`` whenever an evaluation beats all before it.

    The file holds weights, the iteration and the metric, and nothing to go on training from.

    Args:
        metric: the name of what is compared, higher is better: "bbox/AP"; None keeps nothing.
        checkpointer: writes the file.
        model: the model that the metric is about.
    """

    def __init__(
        self,
        metric: str | None,
        checkpointer: ReportingCheckpointer,
        model: nn.Module,
    ) -> None:
        self.metric, self.checkpointer, self.model = metric, checkpointer, model
        self.value: float | None = None  # the best so far

    def update(self, results: Mapping[str, float], iteration: int) -> None:
        """Compares the results of an evaluation, ``{"bbox/AP": 40.0}``; NaN is never best.

        Raises:
            ConfigError: there are results, but not this metric.
            OutputError: the weights cannot be written.
        """
        if self.metric is None or not results:
            return
        if self.metric not in results:
            names = ", ".join(sorted(results))
            raise ConfigError(
                f"train.checkpointer.best is {self.metric!r}, but the evaluation has only {names}; "
                f"set train.checkpointer.best to one of them or to null, and go on with --resume"
            )
        value = float(results[self.metric])
        if math.isnan(value) or (self.value is not None and value <= self.value):
            return
        self.value = value
        logger.info("%s %.4f is the best so far", self.metric, value)
        found = {"iteration": iteration, "metric": {self.metric: value}}
        self.checkpointer.save_content(BEST, {"model": self.model.state_dict(), **found})
