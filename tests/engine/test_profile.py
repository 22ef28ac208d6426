"""The profile of a step: its parts are the step, its memory is the tensors', it leaves no trace."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from small_models import build, item
from torch import nn

from ms_detr.engine import StepProfile, Trainer, do_train
from ms_detr.engine.meters import HostMemory
from ms_detr.engine.profile import PARTS, Recorder, watch_parts

MIB = 2**20


class Batches:
    """The same batch again and again, after a wait."""

    def __init__(self, batch: list[dict], seconds: float = 0.0) -> None:
        self.batch, self.seconds = batch, seconds

    def __iter__(self):
        while True:
            time.sleep(self.seconds)
            yield self.batch


class Timed(Trainer):
    """Knows from outside how long every step took."""

    def run_step(self) -> None:
        begin = time.perf_counter()
        super().run_step()
        self.taken = getattr(self, "taken", [])
        self.taken.append(1000 * (time.perf_counter() - begin))


def profiled(model: nn.Module, out: Path, steps: int, batches: Batches, **options: int):
    """Trains with a profile; returns the trainer and the profiled values by name."""
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    trainer = Timed(model.train(), batches, optimizer, **options)
    trainer.register_hooks([StepProfile(3, out)])
    trainer.train(0, steps)
    stored = {
        name.removeprefix("profile/"): history.latest()
        for name, history in trainer.storage.histories().items()
        if name.startswith("profile/")
    }
    return trainer, stored


@pytest.fixture
def detector() -> nn.Module:
    return build("models/ms_detr.py")


@pytest.mark.parametrize("accumulate", [1, 2])
def test_parts_sum_to_the_step(accumulate, detector, tmp_path):
    batches = Batches([item(128, 160, 3), item(128, 128, 4)], seconds=0.05)
    trainer, stored = profiled(detector, tmp_path, 6, batches, accumulate=accumulate)
    times = {part: stored[f"{part}_ms"] for part in PARTS}  # every part was met
    assert all(value > 0 for value in times.values())
    # The last step was the timed one; hooks of other objects run in it too.
    assert sum(times.values()) == pytest.approx(trainer.taken[-1], rel=0.05)
    assert times["data"] >= 50
    picture = Image.open(tmp_path / "profile.png")
    assert picture.width > 800 and len(picture.convert("RGB").getcolors(2**24)) > 10


class Ticks:
    """A meter whose time passes in modules only."""

    def __init__(self) -> None:
        self.now, self.marks = 0, []

    def mark(self) -> None:
        self.marks.append(self.now)

    def finish(self) -> list[float]:
        return [after - before for before, after in zip(self.marks, self.marks[1:])]


class Takes(nn.Module):
    """Lets time pass, then runs what is inside."""

    def __init__(self, ticks: Ticks, duration: int, *inside: nn.Module) -> None:
        super().__init__()
        self.ticks, self.duration, self.inside = ticks, duration, nn.Sequential(*inside)

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        self.ticks.now += self.duration
        return self.inside(value)


def test_a_part_inside_another_is_taken_out_of_it():
    ticks = Ticks()
    neck = Takes(ticks, 10)
    encoder = Takes(ticks, 100, Takes(ticks, 200), neck, Takes(ticks, 400))
    model = Takes(ticks, 1, encoder, Takes(ticks, 2), neck)
    model.neck, model.encoder = neck, encoder
    recorder = Recorder(ticks, sum)
    with watch_parts(model, recorder):
        model(torch.zeros(1))
    ticks.now += 4
    assert recorder.finish() == {"backbone": 20, "encoder": 700, "other": 7}


class Hungry(nn.Module):
    """A detector whose encoder holds 64 MiB for its backward and 32 MiB more for a moment."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Linear(1, 1)
        self.encoder = nn.Identity()
        self.encoder.register_forward_hook(self._take)
        self.ballast = nn.Parameter(torch.zeros(MIB))  # 4 MiB, and as much of gradient

    def _take(self, module: nn.Module, args: tuple, output: torch.Tensor) -> torch.Tensor:
        large = output * torch.ones(16 * MIB)
        moment = torch.ones(8 * MIB)
        del moment
        return (large * large).mean()

    def forward(self, batch: list) -> dict[str, torch.Tensor]:
        return {"a/0/l1": self.encoder(self.backbone(torch.ones(1))) + self.ballast.sum()}


def test_memory_is_that_of_the_tensors(tmp_path):
    _, stored = profiled(Hungry(), tmp_path, 3, Batches([]))
    # ones (64), their product (64), what is computed of it (64); the gradients of the step before
    # (4) are freed before it begins to take memory.
    assert stored["encoder_mb"] == pytest.approx(192 - 4, abs=0.5)
    assert stored["data_mb"] == pytest.approx(0, abs=0.1)
    assert stored["backbone_mb"] == pytest.approx(-4, abs=0.1)


def test_memory_between_marks():
    memory = HostMemory()
    held = []
    for mib in (8, 0, 24):
        memory.mark()
        held.append(torch.empty(mib * MIB, dtype=torch.uint8))
        if mib == 0:
            held.clear()
    memory.mark()
    assert memory.finish() == pytest.approx([8, 8, 24], abs=0.01)


def hooks_of(model: nn.Module) -> int:
    return sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()
    )


def test_nothing_stays_hooked(detector, tmp_path):
    seen = []

    class Look(StepProfile):
        def before_step(self) -> None:
            super().before_step()
            seen.append(hooks_of(detector))

    optimizer = torch.optim.AdamW(detector.parameters(), 1e-4)
    trainer = Trainer(detector.train(), Batches([item(64, 64, 2)]), optimizer)
    span = trainer.span
    trainer.register_hooks([Look(5, tmp_path)])
    trainer.train(0, 10)
    watched = seen[3]
    assert watched > 0
    assert seen == 2 * [0, 0, 0, watched, watched]  # memory, then time
    assert hooks_of(detector) == 0 and trainer.span is span
    assert "prepare" not in vars(detector.supervisions)


def test_a_step_that_fails_leaves_nothing_either(detector, tmp_path):
    batches = Batches([item(64, 64, 2)])
    optimizer = torch.optim.AdamW(detector.parameters(), 1e-4)
    trainer = Trainer(detector.train(), batches, optimizer)
    trainer.register_hooks([StepProfile(3, tmp_path)])

    def fail(*_: object) -> None:
        if trainer.iter == 1:  # while memory is profiled
            raise RuntimeError("the encoder fails")

    handle = detector.encoder.layers[0].register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="the encoder fails"):
        trainer.train(0, 3)
    handle.remove()
    assert hooks_of(detector) == 0 and "prepare" not in vars(detector.supervisions)
    assert not (tmp_path / "profile.png").exists()


@pytest.mark.parametrize("period", [1, 2, 4])
def test_the_step_that_is_written_is_the_profiled_one(period, detector, tmp_path):
    stored = {}

    class Look(StepProfile):
        def after_step(self) -> None:
            super().after_step()
            stored[self.trainer.iter] = "profile/encoder_ms" in self.trainer.storage.latest()

    optimizer = torch.optim.AdamW(detector.parameters(), 1e-4)
    trainer = Trainer(detector.train(), Batches([item(64, 64, 1)]), optimizer)
    trainer.register_hooks([Look(period, tmp_path)])
    trainer.train(0, 8)
    first = min(iteration for iteration, there in stored.items() if there)
    assert (first + 1) % period == 0 and first == {1: 2, 2: 3, 4: 3}[period]


def test_results_are_the_same(detector, tmp_path):
    """A profile changes no bit of the weights."""
    ends = []
    for hooks in ([], [StepProfile(3, tmp_path)]):
        model = build("models/ms_detr.py")
        trainer = Trainer(
            model.train(), Batches([item(64, 64, 2)]), torch.optim.AdamW(model.parameters(), 1e-3)
        )
        trainer.register_hooks(hooks)
        torch.manual_seed(0)
        trainer.train(0, 4)
        ends.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(*ends)


def test_config(tiny_config, tmp_path):
    do_train(tiny_config("train.profile=True", "train.log_period=3"))
    out = tmp_path / "out"
    lines = [json.loads(line) for line in (out / "metrics.json").read_text().splitlines()]
    with_profile = [line for line in lines if "profile/backbone_ms" in line]
    assert [line["iteration"] for line in with_profile if "total_loss" in line] == [2, 5, 8, 11]
    assert {"profile/backward_mb", "profile/data_ms"} <= set(with_profile[0])
    assert (out / "profile.png").exists()


def test_without_it_nothing_is_written(tiny_config, tmp_path):
    do_train(tiny_config())
    assert "profile/" not in (tmp_path / "out" / "metrics.json").read_text()
    assert not (tmp_path / "out" / "profile.png").exists()
