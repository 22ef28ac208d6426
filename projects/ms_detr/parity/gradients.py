"""Gradients of the total loss, parameter by parameter, under their official names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from . import rules
from .case import CaseError
from .compare import Row, share

if TYPE_CHECKING:
    from .run import ParityRun

# A sampling point on the other side of a pixel's centre has another gradient, and float32 moves
# some there; what stands before such a point in the network feels it.
F32_GRADIENT_TOLERANCE = {"sampling_offsets": 5e-2, "other": 1e-2}


def compare_gradients(run: ParityRun, variant: str, losses: dict[str, Tensor]) -> Iterator[Row]:
    """Norm, sums and a projection of every gradient; samples of some; which ones are missing."""
    arrays, facts = run.case.arrays, run.case.facts
    if f"grad_{variant}.f64" not in arrays:
        return
    gradients = _gradients(run, sum(losses.values()))
    keys = facts["grad_keys"]
    yield from _table(run, f"{variant} gradients", gradients, keys, arrays[f"grad_{variant}.f64"])
    samples = {
        name.removesuffix(".f64").removeprefix(f"grad_{variant}_sample."): values
        for name, values in arrays.items()
        if name.startswith(f"grad_{variant}_sample.") and name.endswith(".f64")
    }
    if samples:
        yield _samples(run, f"{variant} gradients, samples", gradients, samples)
    result = facts["criterion_results"][variant]
    yield _names(run, f"{variant} parameters trained", set(gradients), keys)
    without = {key for key, gradient in gradients.items() if gradient is None}
    yield _names(run, f"{variant} parameters without gradient", without, result["grad_unused"])
    if f"grad_{variant}_boxes.f64" in arrays:
        boxes = sum(loss for key, loss in losses.items() if not key.endswith("/class"))
        gradients = _gradients(run, boxes)
        table = arrays[f"grad_{variant}_boxes.f64"]
        yield from _table(run, f"{variant} gradients of box terms", gradients, keys, table)
        if "grad_boxes_unused" in result:
            without = {key for key, gradient in gradients.items() if gradient is None}
            quantity = f"{variant} parameters without gradient of box terms"
            yield _names(run, quantity, without, result["grad_boxes_unused"])


def _gradients(run: ParityRun, total: Tensor) -> dict[str, Tensor | None]:
    parameters = {
        run.official_names[name]: parameter
        for name, parameter in run.model.named_parameters()
        if parameter.requires_grad
    }
    found = torch.autograd.grad(
        total, list(parameters.values()), retain_graph=True, allow_unused=True
    )
    return dict(zip(parameters, found))


def _table(
    run: ParityRun,
    quantity: str,
    gradients: dict[str, Tensor | None],
    keys: list[str],
    recorded: np.ndarray,
) -> Iterator[Row]:
    """The four numbers of every key, as shares of the recorded norm or sum of absolute values."""
    worst = {"sampling_offsets": (0.0, ""), "other": (0.0, "")}
    if len(keys) != len(recorded):
        raise CaseError(f"{run.case.name}: {len(keys)} grad_keys, but {len(recorded)} gradients")
    for key, (norm, total, absolute, along) in zip(keys, recorded):
        gradient = gradients.get(key)
        if gradient is None:
            difference = float("inf") if norm else 0.0
        else:
            direction = torch.from_numpy(rules.normal_sample("grad:" + key, gradient.shape))
            gradient = gradient.double()
            difference = max(
                share(abs(gradient.norm().item() - norm), norm),
                share(abs((gradient * direction).sum().item() - along), norm),
                share(abs(gradient.sum().item() - total), absolute),
                share(abs(gradient.abs().sum().item() - absolute), absolute),
            )
        kind = "sampling_offsets" if "sampling_offsets" in key else "other"
        worst[kind] = max(worst[kind], (difference, key))
    for kind, (difference, key) in worst.items():
        name = f"{quantity}, {'offsets' if kind == 'sampling_offsets' else 'all others'}"
        yield _row(run, name, difference, kind, unit="of norm", where=key)


def _samples(
    run: ParityRun, quantity: str, gradients: dict[str, Tensor | None], recorded: dict
) -> Row:
    worst = (0.0, "")
    for key, values in recorded.items():
        gradient = gradients[key].flatten()
        ours = gradient[:: max(1, len(gradient) // 64)][:64].double().numpy()
        worst = max(worst, (share(np.abs(ours - values).max(), np.abs(values).max()), key))
    return _row(run, quantity, worst[0], "sampling_offsets", where=worst[1])


def _names(run: ParityRun, quantity: str, ours: set[str], recorded: list[str]) -> Row:
    wrong = sorted(ours.symmetric_difference(recorded))
    return Row(run.case.name, run.precision, quantity, len(wrong), 0, "wrong", ", ".join(wrong))


def _row(run: ParityRun, quantity: str, difference: float, kind: str, **more: str) -> Row:
    tolerance = 1e-9 if run.precision == "f64" else F32_GRADIENT_TOLERANCE[kind]
    return Row(run.case.name, run.precision, quantity, difference, tolerance, **more)
