"""The measurements of tools/benchmark_inference.py; each runs in a process of its own.

    python tools/inference_jobs.py JOB --threads T --runs R --size H W --config FILE

prints figures as JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

import inference_peers
import torch
from benchmarking import Figure, peak_bytes, ratio, take_turns
from detectron2.config import instantiate
from inference_drift import Drift, drift, trained_like
from inference_peers import Detect, Outputs
from torch import Tensor, nn

from ms_detr.config import load_config
from ms_detr.inference import prepare_for_inference
from ms_detr.inference.prepare import levers_for, prepared

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
MIB = 2**20
BATCHES = (1, 2, 8)
TOLERANCE = 1e-3  # of class logits and boxes in float32, in units of 1
GOALS = {"ONNX Runtime": 1.35, "OpenVINO": 1.15, "OpenVINO bf16": 1.4}
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
MODELS = ("unprepared", *_DTYPES)


def build(options: argparse.Namespace) -> nn.Module:
    """The detector of a config, with random weights that are not those of a start."""
    torch.manual_seed(0)
    node = load_config(CONFIGS / options.config, options.overrides).model
    return trained_like(instantiate(node)).eval()


def ours(options: argparse.Namespace, names: Iterable[str]) -> dict[str, nn.Module]:
    """Our detectors, among :data:`MODELS`."""
    detector = build(options)
    made = {name: lambda dtype=dtype: prepare_for_inference(detector, dtype=dtype)
            for name, dtype in _DTYPES.items()}  # fmt: skip
    return {name: made[name]() if name in made else detector for name in names}


def images_of(options: argparse.Namespace, count: int = 1) -> Tensor:
    """A normalised batch of noise."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, *options.size, generator=generator)


def arm(detector: nn.Module, images: Tensor) -> Callable[[], Outputs]:
    """Predictions of a detector."""
    detect = Detect(detector)
    return lambda: detect(images)


def agreed(name: str, outputs: Outputs, wanted: Outputs) -> None:
    """Raises RuntimeError unless two detectors of float32 predict the same."""
    found = drift(outputs, wanted)
    if found.score > TOLERANCE or found.box > TOLERANCE or found.lost:
        raise RuntimeError(f"{name} does not predict what the detector does: {found}")


def peers(options: argparse.Namespace) -> list[Figure]:
    """Ours against other runtimes on the same weights, one image."""
    images, models = images_of(options), ours(options, MODELS)
    arms = {
        name if name == "unprepared" else f"ours {name}": arm(model, images)
        for name, model in models.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "detector.onnx"
        inference_peers.export(build(options), images, path)
        threads = options.threads
        arms["ONNX Runtime"] = inference_peers.onnxruntime_arm(path, threads, images)
        arms["OpenVINO"] = inference_peers.openvino_arm(path, threads, images)
        arms["OpenVINO bf16"] = inference_peers.openvino_arm(path, threads, images, "bf16")
    wanted = arms["unprepared"]()
    for name in ("ours float32", "ONNX Runtime", "OpenVINO"):
        agreed(name, arms[name](), wanted)
    seconds = take_turns(arms, options.runs)
    figures = [
        ratio(f"{name} / ours, {'bf16' if 'bf16' in name else 'fp32'}", seconds, name,
              f"ours {'bfloat16' if 'bf16' in name else 'float32'}",
              goal=None if options.quick else goal)
        for name, goal in GOALS.items()
    ]  # fmt: skip
    for name in ("ours bfloat16", "OpenVINO bf16"):
        figures += _drift_figures(f"{name} / float32", drift(arms[name](), wanted))
    return figures


def _drift_figures(name: str, found: Drift) -> list[Figure]:
    arms = {"median score": found.median_score, "median box": found.median_box,
            "largest score": found.score, "largest box": found.box, "lost": found.lost}  # fmt: skip
    return [
        Figure(
            f"{name}: drift of scores, median",
            1000 * found.median_score,
            "lower",
            None,
            "thousandths",
            arms,
        ),
        Figure(
            f"{name}: drift of boxes, median",
            1000 * found.median_box,
            "lower",
            None,
            "thousandths of the image",
            arms,
        ),
    ]


def batches(options: argparse.Namespace) -> list[Figure]:
    """Images per second of ours, for some sizes of a batch."""
    models = ours(options, MODELS)
    figures = []
    for count in BATCHES[: 2 if options.quick else None]:
        images = images_of(options, count)
        seconds = take_turns({name: arm(model, images) for name, model in models.items()},
                             options.runs)  # fmt: skip
        figures += [
            Figure(f"{name}, batch {count}: images per second", count / seconds[name], "higher",
                   None, "images/s", {"ms": 1000 * seconds[name]})
            for name in models
        ]  # fmt: skip
        figures += [
            ratio(f"batch {count}: unprepared / prepared, {name}", seconds, "unprepared", name,
                  goal=None)
            for name in _DTYPES
        ]  # fmt: skip
    return figures


def memory(options: argparse.Namespace) -> list[Figure]:
    """Peak memory of one detector and one size of a batch, beside weights and images.

    In a process of its own: what was freed before would not be counted.
    """
    (model,) = ours(options, [options.model]).values()
    images = images_of(options, options.batch)
    peak = peak_bytes(arm(model, images)) / MIB
    name = f"{options.model}, batch {options.batch}: peak memory"
    return [Figure(name, peak, "lower", None, "MiB", {})]


def levers(options: argparse.Namespace) -> list[Figure]:
    """What each lever brings: without it / with all, one image."""
    detector, images, figures = build(options), images_of(options), []
    for name, dtype in _DTYPES.items():
        chosen = levers_for(detector.device, dtype)
        arms = {"all": arm(prepared(detector, dtype, chosen), images)}
        for lever in chosen:
            others = [other for other in chosen if other is not lever]
            model = prepared(detector, dtype, others)
            arms[f"without {lever.__name__}"] = arm(model, images)
        seconds = take_turns(arms, options.runs)
        figures += [
            ratio(f"{name}, {other} / all", seconds, other, "all", goal=None)
            for other in arms
            if other != "all"
        ]
    return figures


def compiled(options: argparse.Namespace) -> list[Figure]:
    """The prepared detector / the same under torch.compile, one image."""
    detector, images, figures = build(options), images_of(options), []
    for name, dtype in _DTYPES.items():
        model = prepare_for_inference(detector, dtype=dtype)
        compiled_model = torch.compile(Detect(model), fullgraph=True, dynamic=False)
        arms = {"eager": arm(model, images), "compiled": lambda run=compiled_model: run(images)}
        if dtype == torch.float32:
            agreed("the compiled detector", arms["compiled"](), arms["eager"]())
        seconds = take_turns(arms, options.runs)
        figures.append(
            ratio(f"{name}: prepared / compiled", seconds, "eager", "compiled", goal=None)
        )
    return figures


JOBS = {job.__name__: job for job in (peers, batches, memory, levers, compiled)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("job", choices=JOBS)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--runs", type=int, required=True)
    parser.add_argument("--size", type=int, nargs=2, required=True)
    parser.add_argument("--config", required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--model", choices=MODELS, help="of the job memory")
    parser.add_argument("--batch", type=int, help="of the job memory")
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_intermixed_args()
    torch.set_num_threads(options.threads)
    with torch.no_grad():
        figures = JOBS[options.job](options)
    json.dump([asdict(figure) for figure in figures], sys.stdout)


if __name__ == "__main__":
    main()
