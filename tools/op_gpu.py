"""The measurements of tools/benchmark_op.py on a GPU."""

from __future__ import annotations

import op_arms
import torch
from benchmarking import Figure, ratio, take_turns
from op_arms import Problem, problem
from op_forms import Arm, fused, gradient_arm, ours
from op_naive import Naive
from torch import Tensor

from ms_detr.ops import implementation, unfused

LARGE = (800, 1066)  # levels 100x134, 50x67, 25x34, 13x17
CALLS = 20  # of an arm in a row: the host needs longer to start one kernel than the GPU for it
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 1e-2}


def cuda(runs: int, threads: int) -> list[Figure]:  # noqa: ARG001
    """Ours against the algorithm of the first kernels (op_naive.py) and against PyTorch."""
    if implementation("cuda").name != "compiled":
        raise RuntimeError(f"no CUDA kernels: {implementation('cuda')}")
    figures = []
    for queries in (None, 300, 900):
        what = "encoder" if queries is None else f"decoder, {queries} queries"
        for dtype, goal in ((torch.float32, 2.5), (torch.bfloat16, 4.0)):
            p = problem(*LARGE, queries, device="cuda", dtype=dtype)
            goals = (goal, 2.0) if queries is None else (None, None)
            name = f"GPU {what}, {str(dtype).removeprefix('torch.')}"
            figures += _against_naive(p, name, runs, goals)
    figures += _against_pytorch(runs)
    return figures


def _against_naive(
    p: Problem, name: str, runs: int, goals: tuple[float | None, float | None]
) -> list[Figure]:
    naive = Naive(p)
    _check(ours(p), naive.forward(), p.value.dtype)
    for actual, wanted in zip(_gradients(p), naive.both()[1]):
        _check(actual, wanted, p.value.dtype)
    forward = _times(
        {
            "first": naive.forward,
            "ours": lambda: ours(p),
            "fused": lambda: fused(p),
            "unfused": lambda: unfused.forward(
                p.value, _sizes(p), p.reference, p.offsets, p.logits
            ),
        },
        runs,
    )
    both = _times(
        {
            "first": naive.both,
            "ours": lambda: (ours(p), _gradients(p)),
            "deterministic": lambda: (ours(p), _deterministic(p)),
        },
        runs,
    )
    above = "first algorithm, float32"
    return [
        ratio(f"{name}, forward: {above} / ours", forward, "first", "ours", goal=goals[0]),
        ratio(f"{name}, forward: fused with softmax and locations / ours", forward, "fused", "ours",
              goal=None, better="lower"),
        ratio(f"{name}, forward: softmax and locations by PyTorch / fused", forward, "unfused",
              "fused", goal=None),
        ratio(f"{name}, forward + backward: {above} / ours", both, "first", "ours", goal=goals[1]),
        ratio(f"{name}, forward + backward: deterministic / ours", both, "deterministic", "ours",
              goal=None, better="lower"),
    ]  # fmt: skip


def _against_pytorch(runs: int) -> list[Figure]:
    p = problem(*LARGE, None, device="cuda")
    forward = _times({"official": lambda: op_arms.official(p), "ours": lambda: ours(p)}, runs)
    both = _times(
        {"official": gradient_arm(p, op_arms.official), "ours": gradient_arm(p, ours)}, runs
    )
    return [
        ratio(f"GPU encoder {what}: official grid_sample / ours", seconds, "official", "ours",
              goal=None)
        for what, seconds in (("forward", forward), ("forward + backward", both))
    ]  # fmt: skip


def _times(arms: dict[str, Arm], runs: int) -> dict[str, float]:
    """Median seconds of a call."""
    rows = {name: lambda arm=arm: _repeat(arm) for name, arm in arms.items()}
    return {name: t / CALLS for name, t in take_turns(rows, runs, device="cuda").items()}


def _repeat(arm: Arm) -> None:
    for _ in range(CALLS):
        arm()


def _gradients(p: Problem) -> tuple[Tensor, ...]:
    backward = torch.ops.ms_detr.ms_deform_attn_backward
    return backward(p.grad, p.value, _sizes(p), p.locations, p.weights)


def _sizes(p: Problem) -> list[int]:
    return [side for shape in p.shapes for side in shape]


def _deterministic(p: Problem) -> tuple[Tensor, ...]:
    torch.use_deterministic_algorithms(True)
    try:
        return _gradients(p)
    finally:
        torch.use_deterministic_algorithms(False)


def _check(actual: Tensor, wanted: Tensor, dtype: torch.dtype) -> None:
    """On the average: a point between two pixels may fall to either, with another derivative."""
    error = (actual.float() - wanted).abs().mean().item()
    if not error <= TOLERANCE[dtype] * wanted.abs().mean().item():
        raise RuntimeError(f"ours is off by {error} in {dtype}")
