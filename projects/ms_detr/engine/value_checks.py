"""Checks of the numbers of a config."""

from __future__ import annotations

import math

from omegaconf import DictConfig, OmegaConf

from ..config import iterate_nodes
from ..errors import ConfigError


def check_values(cfg: DictConfig) -> None:
    """Checks the numbers that make a run meaningless or break it late; absent keys are skipped.

    Raises:
        ConfigError: a key that has to be given is missing, or a value is out of its range.
    """
    missing = [key for key, node in iterate_nodes(cfg) if node._is_missing()]
    if missing:
        given = " ".join(f"{key}=..." for key in missing)
        raise ConfigError(f"the config leaves {', '.join(missing)} to you: give {given}")
    for key in ("train.max_iter", "train.log_period", "train.checkpointer.period"):
        _check(cfg, key, whole=True, low=1)
    _check(cfg, "train.checkpointer.max_to_keep", whole=True, low=1, optional=True)
    _check(cfg, "train.eval_period", whole=True, low=0)
    _check(cfg, "train.seed", whole=True)
    _check(cfg, "train.accumulate", whole=True, low=1)
    _check(cfg, "train.ema.decay", low=0.0)
    _check(cfg, "train.ema.warmup", whole=True, low=0)
    flags = [OmegaConf.select(cfg, f"train.{key}") for key in ("deterministic", "cudnn_benchmark")]
    if all(flags):
        raise ConfigError(
            "train.cudnn_benchmark chooses algorithms by their speed, which differs from run to "
            "run, so train.deterministic=True excludes it; set one of them to False"
        )
    _check(cfg, "train.clip_grad.max_norm", above=0.0, optional=True)
    _check(cfg, "optimizer.lr", above=0.0)
    _check(cfg, "optimizer.weight_decay", low=0.0)
    for split in ("train", "test"):
        for key in ("total_batch_size", "batch_size"):
            _check(cfg, f"dataloader.{split}.{key}", whole=True, low=1, optional=True)
        _check(cfg, f"dataloader.{split}.num_workers", whole=True, low=0)
    schedule = OmegaConf.select(cfg, "lr_multiplier", default=None)
    if isinstance(schedule, DictConfig):
        _check_schedule(schedule, "lr_multiplier")


def _check(
    cfg: DictConfig,
    key: str,
    *,
    whole: bool = False,
    low: float | None = None,
    above: float | None = None,
    optional: bool = False,
) -> None:
    absent = object()
    value = OmegaConf.select(cfg, key, default=absent)
    if value is absent or (value is None and optional):
        return
    wanted = "a whole number" if whole else "a number"
    wanted += f" of at least {low}" if low is not None else ""
    wanted += f" above {above:g}" if above is not None else ""
    is_number = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    good = is_number and math.isfinite(value)
    good = good and (low is None or value >= low) and (above is None or value > above)
    if not good:
        raise ConfigError(f"{key} is {value!r}: it must be {wanted}; set {key}=...")


def _check_schedule(schedule: DictConfig, key: str) -> None:
    """Milestones must rise, lie inside the schedule, and fit the number of values."""
    inner = schedule.get("scheduler")
    if isinstance(inner, DictConfig):
        _check_schedule(inner, f"{key}.scheduler")
    values = schedule.get("values")
    for value in values or ():
        if not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
            raise ConfigError(f"{key}.values holds {value!r}: factors are finite and at least 0")
    milestones = schedule.get("milestones")
    if milestones is None:
        return
    updates = schedule.get("num_updates")
    steps = list(milestones)
    for before, step in zip([0, *steps], steps):
        if isinstance(step, bool) or not isinstance(step, (int, float)) or not step > before:
            raise ConfigError(f"{key}.milestones is {steps}: it must rise, from above 0")
    if updates is not None and steps and steps[-1] >= updates:
        raise ConfigError(
            f"{key}.milestones is {steps}, but the schedule ends at num_updates={updates}; "
            f"the last milestone must lie before it"
        )
    wanted = len(steps) + int(updates is not None)
    if values is not None and len(values) != wanted:
        raise ConfigError(
            f"{key} has {len(values)} values for milestones {steps} (num_updates={updates}): "
            f"{wanted} are needed"
        )
