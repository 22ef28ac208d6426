"""Settings that a resumed run takes from the config, and what to say if they have changed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

logger = logging.getLogger(__name__)

_KEYS = (
    "train.max_iter",
    "train.accumulate",
    "train.amp.enabled",
    "train.amp.dtype",
    "train.clip_grad.max_norm",
    "dataloader.train.total_batch_size",
)


def run_settings(cfg: DictConfig) -> dict[str, Any]:
    """The values, by dotted key, that a checkpoint notes to compare them on resuming."""
    return {key: OmegaConf.select(cfg, key, default=None) for key in _KEYS}


def report_changes(saved: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Warns of every setting that is not what the checkpoint notes: the config's counts.

    A run that goes on with other settings is not the one that never stopped.
    """
    for key in saved.keys() & now.keys():
        if saved[key] != now[key]:
            logger.warning(
                "--resume: %s was %s when the checkpoint was saved; the config's %s counts from "
                "here on", key, saved[key], now[key],
            )  # fmt: skip
