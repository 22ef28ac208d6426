"""The measurements of tools/benchmark_op.py; each runs in a process of its own.

    python tools/op_jobs.py JOB --threads T --runs R

prints figures, or what a job measured else, as JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict

import op_arms
import op_gpu
import op_limits
import torch
from benchmarking import Figure, peak_bytes, ratio, take_turns
from op_arms import Problem, problem
from op_forms import (
    FUSED,
    PLAIN,
    forward_arms,
    fused,
    gradient_arm,
    ours,
    pytorch,
    pytorch_gradient_arm,
)
from torch import Tensor

from ms_detr.layers import MultiScaleDeformableAttention
from ms_detr.structures import FeaturePyramid

LARGE = (800, 1066)  # levels 100x134, 50x67, 25x34, 13x17


def encoder(runs: int, threads: int, suffix: str = "", goals: Mapping[str, float] | None = None):
    """Forward, one query per token of an 800x1066 image, two images."""
    goals = goals or {"official": 30, "per_level": 20, "pytorch": 20}
    p = problem(*LARGE, None)
    arms = forward_arms(
        p, official=op_arms.official, per_level=op_arms.per_level, pytorch=pytorch, ours=ours
    )
    gather = op_limits.gatherer(p, threads)
    torch.testing.assert_close(gather(), ours(p), rtol=1e-3, atol=1e-3)
    seconds = take_turns({**arms, "gather": gather}, runs)
    fast = take_turns({"ours": arms["ours"], "gather": gather, "fused": lambda: fused(p)}, 3 * runs)
    reader = op_limits.cache_reader(threads)
    cache = take_turns({"ours": arms["ours"], "cache": reader}, runs)
    rate = op_limits.cache_bytes(threads) / cache["cache"]
    least = op_limits.row_bytes(p) / rate
    name = f"encoder forward{suffix}: "
    figures = [
        ratio(f"{name}official grid_sample / ours", seconds, "official", "ours",
              goal=goals["official"]),
        ratio(f"{name}best public PyTorch (per level) / ours", seconds, "per_level", "ours",
              goal=goals["per_level"]),
        ratio(f"{name}our own PyTorch (bags) / ours", seconds, "pytorch", "ours",
              goal=goals["pytorch"]),
        ratio(f"{name}ours / loop that only gathers", fast, "ours", "gather", goal=1.0,
              better="lower"),
        Figure(f"{name}ours / its reads at second-level cache speed", cache["ours"] / least,
               "lower", 3.0, "times",
               {"ours ms": 1000 * cache["ours"], "reads ms": 1000 * least, "GB/s": rate / 1e9}),
        ratio(f"{name}fused with softmax and locations / ours", fast, "fused", "ours", goal=None,
              better="lower"),
    ]  # fmt: skip
    return figures


def encoder_large_pages(runs: int, threads: int):
    """The same with large pages for all arms; only the goal over the best form was set."""
    goals = {"official": 12, "per_level": 12, "pytorch": None}
    return [
        *encoder(runs, threads, ", large pages", goals),
        *encoder_gradients(runs, threads, ", large pages", (None, None)),
    ]


def encoder_gradients(runs: int, threads: int, suffix: str = "", goals=(20, 15)):  # noqa: ARG001
    """Forward and backward of the same."""
    p = problem(*LARGE, None)
    arms = {
        "official": gradient_arm(p, op_arms.official),
        "per_level": gradient_arm(p, op_arms.per_level),
        "pytorch": pytorch_gradient_arm(p),
        "ours": gradient_arm(p, ours),
        "fused": gradient_arm(p, fused, FUSED),
    }
    seconds, name = take_turns(arms, runs), f"encoder forward + backward{suffix}: "
    return [
        ratio(f"{name}official grid_sample / ours", seconds, "official", "ours", goal=goals[0]),
        ratio(f"{name}best public PyTorch (per level) / ours", seconds, "per_level", "ours",
              goal=goals[1]),
        ratio(f"{name}our own PyTorch (bags) / ours", seconds, "pytorch", "ours", goal=goals[1]),
        ratio(f"{name}fused with softmax and locations / ours", seconds, "fused", "ours",
              goal=None, better="lower"),
    ]  # fmt: skip


def decoder(runs: int, threads: int, suffix: str = "", goal: float = 4):  # noqa: ARG001
    """300 and 900 queries on the same memory."""
    figures = []
    for queries in (300, 900):
        p = problem(*LARGE, queries)
        arms = forward_arms(
            p, official=op_arms.official, bag=op_arms.embedding_bag, pytorch=pytorch, ours=ours
        )
        name = f"decoder, {queries} queries, forward{suffix}: "
        seconds = take_turns(arms, 3 * runs)
        figures += [
            ratio(f"{name}official grid_sample / ours", seconds, "official", "ours", goal=25),
            ratio(f"{name}embedding_bag / ours", seconds, "bag", "ours", goal=8),
            ratio(f"{name}our own PyTorch (bags) / ours", seconds, "pytorch", "ours", goal=None),
        ]
        arms = {"official": gradient_arm(p, op_arms.official), "ours": gradient_arm(p, ours)}
        name = f"decoder, {queries} queries, forward + backward{suffix}: "
        seconds = take_turns(arms, 3 * runs)
        figures.append(ratio(f"{name}official grid_sample / ours", seconds, "official", "ours",
                             goal=goal))  # fmt: skip
    return figures


def decoder_large_pages(runs: int, threads: int):
    """The same with large pages for all arms."""
    return decoder(runs, threads, ", large pages", 8)


def module(runs: int, threads: int):  # noqa: ARG001
    """The attention module of an encoder layer against its four linear layers, one image."""
    p = problem(*LARGE, None, images=1)
    attention = MultiScaleDeformableAttention(256).eval()
    tokens = p.value.flatten(2)
    sizes = torch.tensor([(w, h) for h, w in p.shapes])
    memory = FeaturePyramid(
        tokens_BSC=tokens,
        pos_BSC=torch.zeros_like(tokens),
        padding_BS=torch.zeros(tokens.shape[:2], dtype=torch.bool),
        shapes=p.shapes,
        valid_BL2=sizes[None],
    )
    query, centers = torch.randn_like(tokens), memory.centers_BS2()
    linears = (
        attention.value_proj,
        attention.sampling_offsets,
        attention.attention_weights,
        attention.output_proj,
    )
    with torch.inference_mode():
        seconds = take_turns(
            {
                "module": lambda: attention(query, centers, memory),
                "linears": lambda: [linear(query) for linear in linears],
            },
            3 * runs,
        )
    return [ratio("attention module / its four linear layers", seconds, "module", "linears",
                  goal=1.25, better="lower")]  # fmt: skip


def capability(runs: int, threads: int):  # noqa: ARG001
    """Official form against ours, with whatever instructions the environment leaves."""
    p = problem(*LARGE, None)
    arms = forward_arms(p, official=op_arms.official, ours=ours)
    return take_turns(arms, runs)


def memory(runs: int, threads: int):  # noqa: ARG001
    """Peak memory beyond the inputs, against the size of the results."""
    small = problem(64, 64, None)
    gradient_arm(small, ours)()  # threads and libraries are there
    p = problem(*LARGE, None)
    results = p.grad.numel() * 4
    gradients = results + 4 * sum(getattr(p, name).numel() for name in PLAIN)
    figures = []
    for name, work, size, goal in (
        ("forward", lambda: ours(p), results, 1.05),
        ("forward + backward", lambda: _output_and_gradients(p), gradients, 1.15),
    ):
        peak = peak_bytes(work)
        arms = {"peak MB": peak / 1e6, "results MB": size / 1e6}
        figures.append(Figure(f"encoder {name}: peak extra memory / results", peak / size,
                              "lower", goal, "times", arms))  # fmt: skip
    return figures


def _output_and_gradients(p: Problem) -> tuple[Tensor, ...]:
    leaves = {name: getattr(p, name).detach().requires_grad_() for name in PLAIN}
    output = ours(Problem(**{**vars(p), **leaves}))
    return output, *torch.autograd.grad(output, list(leaves.values()), p.grad)


def official_memory(runs: int, threads: int):  # noqa: ARG001
    """Peak memory of the official form's forward pass."""
    op_arms.official(problem(64, 64, None))
    p = problem(*LARGE, None)
    return {"official MB": peak_bytes(lambda: op_arms.official(p)) / 1e6}


def curves(runs: int, threads: int):
    """Milliseconds for the picture: against queries, image size and threads."""
    forms = {"official grid_sample": op_arms.official, "embedding_bag": op_arms.embedding_bag,
             "our PyTorch": pytorch, "ours": ours}  # fmt: skip
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}

    def add(panel: str, x: float, p: Problem) -> None:
        for name, second in take_turns(forward_arms(p, **forms), runs).items():
            found.setdefault(panel, {}).setdefault(name, []).append((x, 1000 * second))

    for queries in (100, 300, 900, 2700):
        add("queries", queries, problem(*LARGE, queries))
    for side in (256, 400, 600, 800):
        add("image size", side, problem(side, side * 4 // 3, None, images=1))
    p = problem(512, 682, None, images=1)
    for count in range(1, threads + 1):
        torch.set_num_threads(count)
        add("threads", count, p)
    return found


JOBS = {
    job.__name__: job
    for job in (
        encoder, encoder_gradients, encoder_large_pages, decoder, decoder_large_pages, module,
        capability, memory, official_memory, curves, op_gpu.cuda,
    )
}  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("job", choices=JOBS)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--runs", type=int, required=True)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    found = JOBS[options.job](options.runs, options.threads)
    if isinstance(found, list):
        found = [asdict(figure) for figure in found]
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
