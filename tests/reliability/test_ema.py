"""The average of weights: its arithmetic, its place in a run, and that it resumes to the bit."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from detectron2.config import LazyCall
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils.events import EventStorage
from tiny_runs import tiny_config, tiny_scenes
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ms_detr.engine import Trainer, WeightAverage, do_eval_only, do_train
from ms_detr.errors import ConfigError


class Model(nn.Module):
    """A sum of weights, some of them frozen, and a running statistic."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(3, 2), nn.Linear(2, 2)
        self.first.requires_grad_(False)
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, batch, num_boxes=None):
        self.seen += 1
        return {"loss": self.second(self.first(torch.ones(3))).pow(2).sum() * len(batch)}


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_same(a: dict, b: dict) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def walk(model: nn.Module, steps: int) -> None:
    with torch.no_grad():
        for number in range(steps):
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.1 * (number + 1))
            model.seen += 1


@pytest.mark.parametrize("decay, warmup", [(0.9, 0), (0.9, 10), (0.999, 3), (0.0, 5)])
def test_the_average_is_the_recursion(decay, warmup):
    model = Model().double()
    average = WeightAverage(model, decay, warmup)
    expected = torch.full((), float("nan"), dtype=torch.float64)
    for number in range(1, 60):
        walk(model, 1)
        average.update()
        weight = model.second.bias[0].detach().clone()
        share = min(decay, number / (number + warmup)) if number > 1 else 0.0
        expected = weight if number == 1 else share * expected + (1 - share) * weight
        torch.testing.assert_close(average.model.second.bias[0], expected, rtol=1e-12, atol=0)
    assert average.model.seen == model.seen == 59  # the buffer is the model's
    assert_same(state(average.model.first), state(model.first))
    assert not average.model.training and model.training
    assert not any(parameter.requires_grad for parameter in average.model.parameters())


def test_the_first_update_forgets_what_the_model_began_with():
    model = Model()
    average = WeightAverage(model)
    walk(model, 3)  # such as loading a checkpoint
    average.update()
    assert_same(state(average.model), state(model))


def test_its_state_continues_to_the_bit():
    model = Model()
    average = WeightAverage(model, 0.99, 5)
    for _ in range(7):
        walk(model, 1)
        average.update()
    other = Model()
    other.load_state_dict(state(model))
    continued = WeightAverage(other, 0.99, 5)
    continued.load_state_dict(average.state_dict())
    for _ in range(20):
        walk(model, 1), walk(other, 1)
        average.update(), continued.update()
    assert_same(average.state_dict()["model"], continued.state_dict()["model"])
    assert average.updates == continued.updates == 27


@pytest.mark.parametrize("decay", [1.0, 1.5, -0.1, float("nan")])
def test_bad_decay(decay):
    with pytest.raises(ConfigError, match=r"train\.ema\.decay"):
        WeightAverage(Model(), decay)


def steps(trainer: Trainer, count: int) -> None:
    for trainer.iter in range(count):
        with EventStorage(trainer.iter):
            trainer.run_step()


def make(model: nn.Module, ema: WeightAverage, **options) -> Trainer:
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    batch = [{"instances": range(1)}] * 4
    optimizer = torch.optim.SGD(weights, lr=0.01)
    return Trainer(model, itertools.repeat(batch), optimizer, ema=ema, **options)


@pytest.mark.parametrize("accumulate", [1, 4])
def test_one_update_of_the_average_for_each_of_the_weights(accumulate):
    model = Model()
    ema = WeightAverage(model, 0.5, 0)
    trainer = make(model, ema, accumulate=accumulate)
    steps(trainer, 1)
    first = model.second.bias.detach().clone()
    assert torch.equal(ema.model.second.bias, first)
    steps(trainer, 1)
    torch.testing.assert_close(ema.model.second.bias, (first + model.second.bias.detach()) / 2)
    assert ema.updates == 2


def test_a_skipped_step_is_not_averaged():
    model = Model()
    ema = WeightAverage(model)
    trainer = make(model, ema)
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    steps(trainer, 1)
    assert trainer.skipped_steps == 1 and ema.updates == 0


def test_behind_several_processes_wrapper(tmp_path):
    """The average is of the model within, under its own names."""
    alone, within = Model(), Model()
    averages = [WeightAverage(model, 0.9, 2) for model in (alone, within)]
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        steps(make(DistributedDataParallel(within), averages[1]), 4)
    finally:
        dist.destroy_process_group()
    steps(make(alone, averages[0]), 4)
    assert_same(state(averages[0].model), state(averages[1].model))


# whole runs


class ScoreEvaluator(DatasetEvaluator):
    """A metric that depends on the weights: the sum of all scores."""

    def reset(self) -> None:
        self.total = 0.0

    def process(self, inputs: list, outputs: list) -> None:
        self.total += sum(output["instances"].scores.sum().item() for output in outputs)

    def evaluate(self) -> dict:
        return {"bbox": {"AP": self.total}}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    with tiny_scenes(tmp_path_factory.mktemp("scenes")) as folder:
        yield folder


AVERAGED = ("train.ema.enabled=True", "train.ema.decay=0.9", "train.ema.warmup=2")


def config(scenes: Path, out: Path, *overrides: str):
    cfg = tiny_config(scenes, out, *overrides)
    cfg.dataloader.evaluator = LazyCall(ScoreEvaluator)()
    return cfg


def saved(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def test_a_run_evaluates_and_leaves_the_average(scenes, tmp_path):
    out = tmp_path / "out"
    results = do_train(config(scenes, out, *AVERAGED))
    live, averaged = results["bbox"]["AP"], results["ema"]["bbox"]["AP"]
    assert live != averaged

    lines = [json.loads(line) for line in (out / "metrics.json").read_text().splitlines()]
    found = [(x["bbox/AP"], x["ema/bbox/AP"]) for x in lines if "bbox/AP" in x]
    assert len(found) == 3 and all(a != b for a, b in found)
    content = json.loads((out / "results.json").read_text())
    assert content == {
        "iteration": 12, "metrics": {"bbox": {"AP": live}}, "ema": {"bbox": {"AP": averaged}},
    }  # fmt: skip

    # The average in the checkpoint and the one in the file of its own, which is a checkpoint.
    trained = saved(out / "model_final.pth")
    assert trained["trainer"]["ema"]["updates"] == 12
    assert_same(saved(out / "model_final_ema.pth")["model"], trained["trainer"]["ema"]["model"])
    path = f"train.init_checkpoint={out}/model_final_ema.pth"
    assert do_eval_only(config(scenes, tmp_path / "eval", path)) == {"bbox": {"AP": averaged}}

    # --eval-only of the checkpoint evaluates both, where asked for.
    path = f"train.init_checkpoint={out}/model_final.pth"
    assert do_eval_only(config(scenes, tmp_path / "eval", path)) == {"bbox": {"AP": live}}
    assert do_eval_only(config(scenes, tmp_path / "eval", path, *AVERAGED)) == results


def test_the_average_does_not_change_the_training(scenes, tmp_path):
    do_train(config(scenes, tmp_path / "a"))
    do_train(config(scenes, tmp_path / "b", *AVERAGED))
    models = [saved(tmp_path / name / "model_final.pth")["model"] for name in "ab"]
    assert_same(*models)


def test_a_resumed_run_ends_with_the_same_average(scenes, tmp_path):
    do_train(config(scenes, tmp_path, *AVERAGED))
    whole = saved(tmp_path / "model_final.pth")
    for path in [*tmp_path.glob("model_final*.pth"), tmp_path / "model_0000011.pth"]:
        path.unlink()
    (tmp_path / "last_checkpoint").write_text("model_0000007.pth")
    do_train(config(scenes, tmp_path, *AVERAGED), resume=True)
    again = saved(tmp_path / "model_final.pth")
    assert_same(again["model"], whole["model"])
    assert_same(again["trainer"]["ema"]["model"], whole["trainer"]["ema"]["model"])


def test_weights_without_an_average_are_refused(scenes, tmp_path):
    do_train(config(scenes, tmp_path / "out", "train.max_iter=2"))
    path = f"train.init_checkpoint={tmp_path}/out/model_final.pth"
    with pytest.raises(ConfigError, match=r"model_final\.pth holds no averaged weights"):
        do_eval_only(config(scenes, tmp_path / "eval", path, *AVERAGED))


@pytest.mark.parametrize(
    "override, words",
    [("train.ema.decay=1.0", "decay is 1.0"), ("train.ema.warmup=-1", "warmup is -1")],
)
def test_bad_options_are_refused(override, words, scenes, tmp_path):
    with pytest.raises(ConfigError, match=words):
        do_train(config(scenes, tmp_path, *AVERAGED, override))
