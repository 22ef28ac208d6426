"""A tiny run that can be interrupted in many ways, and the comparison of what runs leave."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from torch import Tensor, nn

from ms_detr.engine.compare_runs import run_differences

TESTS = Path(__file__).resolve().parent
CONFIG = TESTS / "interrupted_config.py"
PATH = [str(TESTS), str(TESTS / "engine")]
sys.path += [folder for folder in PATH if folder not in sys.path]

from tiny_detector import TinyDetector  # noqa: E402


class InterruptedDetector(TinyDetector):
    """The tiny detector with dropout, which spoils itself or its process at a given call.

    Args:
        at: the training call at which it happens, counted from 1 in each process; 0: never.
        how: "error" raises, a signal's name sends that signal to the own process.
    """

    def __init__(self, num_classes: int, at: int = 0, how: str = "error") -> None:
        super().__init__(num_classes)
        self.at, self.how = at, how
        self.dropout = nn.Dropout(0.3)

    def forward(self, batch: list[dict], num_boxes: Tensor | None = None) -> dict | list:
        if self.training and self.calls + 1 == self.at:
            if self.how == "error":
                raise RuntimeError("interrupted")
            os.kill(os.getpid(), signal.Signals[self.how])
        found = super().forward(batch)
        if self.training:
            noise = self.dropout(torch.ones(8, device=self.boxes.weight.device)).mean()
            found = {name: loss * noise for name, loss in found.items()}
        return found


class ScoreEvaluator(DatasetEvaluator):
    """The mean score, which depends on every bit of the weights, and a metric that is undefined.

    Args:
        signal_at: the image at which the own process gets a SIGTERM; 0: none.
    """

    evaluations = 0  # in this process

    def __init__(self, signal_at: int = 0) -> None:
        self.signal_at = signal_at

    def reset(self) -> None:
        self.scores: list[float] = []

    def process(self, inputs: list, outputs: list) -> None:
        self.scores += [float(output["instances"].scores.sum()) for output in outputs]
        if len(self.scores) == self.signal_at:
            os.kill(os.getpid(), signal.SIGTERM)

    def evaluate(self) -> dict:
        type(self).evaluations += 1
        mean = sum(self.scores) / max(1, len(self.scores))
        return {"bbox": {"AP": 100 * mean, "APl": float("nan")}}


@contextmanager
def registered(folder: Path) -> Iterator[None]:
    """Forgets the data set of a configuration afterwards."""
    try:
        yield
    finally:
        for name in {"tiny"} & set(DatasetCatalog.list()):
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)


def train(out: Path, scenes: Path, *overrides: str, resume: bool = False) -> dict:
    """``do_train`` in this process."""
    from ms_detr.config import load_config
    from ms_detr.engine import do_train, prepare_dataset

    with registered(scenes):
        cfg = load_config(CONFIG, [f"dataset.root={scenes}", f"train.output_dir={out}", *overrides])
        prepare_dataset(cfg)
        torch.manual_seed(max(0, cfg.train.seed))  # initial weights, as setup() does it
        return do_train(cfg, resume=resume)


def command(out: Path, scenes: Path, *given: str, processes: int = 0) -> list[str]:
    """The command line of ``train_net.py`` for such a run."""
    script = TESTS.parent / "train_net.py"
    return [
        sys.executable, str(script), "--config-file", str(CONFIG), "--num-gpus", str(processes),
        *(option for option in given if option.startswith("--")),
        f"dataset.root={scenes}", f"train.output_dir={out}",
        *(value for value in given if not value.startswith("--")),
    ]  # fmt: skip


def environment() -> dict[str, str]:
    """For a process that finds the package and the tiny modules."""
    here = [*PATH, str(TESTS.parent / "projects")]
    known = [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
    return {
        **os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": os.pathsep.join([*known, *here]),
    }  # fmt: skip


def start(arguments: list[str], log: Path) -> subprocess.Popen:
    """Starts a run in a process group of its own, with all that it says in ``log``."""
    with open(log, "ab") as file:
        return subprocess.Popen(
            arguments, env=environment(), stdout=file, stderr=file, start_new_session=True
        )


def wait_for(process: subprocess.Popen, path: Path, text: str = "") -> bool:
    """Waits until a file (or one that a pattern fits) is there, with ``text`` in it.

    Returns:
        False if the process ended before.

    Raises:
        AssertionError: if neither happens for 300 seconds.
    """
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        ended = process.poll() is not None
        for found in path.parent.glob(path.name):
            if not text or text in found.read_text(errors="replace"):
                return True
        if ended:
            return False
        time.sleep(0.005)
    raise AssertionError(f"{path} does not come")


def final(folder: Path) -> dict:
    """The content of the final checkpoint."""
    return torch.load(folder / "model_final.pth", map_location="cpu", weights_only=True)


def assert_same_run(found: Path, wanted: Path) -> None:
    """Weights, optimizer, everything else in the last checkpoints, metrics and results agree."""
    assert run_differences(found, wanted) == []
    assert not list(found.glob("*.tmp-*"))
