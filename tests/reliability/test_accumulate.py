"""An update in several parts is the update of the whole batch."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from detectron2.engine import default_argument_parser
from detectron2.utils.events import EventStorage
from small_models import build
from small_training import IMAGES, OBJECTS, UPDATES, batches, train, train_in_processes
from torch import nn

from ms_detr.engine import Trainer, setup
from ms_detr.errors import ConfigError, NonFiniteError
from ms_detr.structures import Targets

PLAIN = "ms_detr/ms_detr_r50_300q_12ep.py"
SLOW = [
    "ms_detr/ms_detr_pp_r50_900q_12ep.py",
    "combined/ms_hybrid_r50_300q_12ep.py",
    "combined/ms_group_r50_300q_12ep.py",
    "ms_detr/ms_detr_conditional_r50_300q_12ep.py",
]
CASES = [(PLAIN, 2), (PLAIN, 4)]
CASES += [pytest.param(config, 2, marks=pytest.mark.slow) for config in SLOW]


def assert_equal_runs(found: dict, wanted: dict) -> None:
    for update in range(UPDATES):
        ours, theirs = found["logged"][update], wanted["logged"][update]
        assert ours.keys() == theirs.keys()
        for name in ours.keys() - {"data_time"}:
            assert ours[name] == pytest.approx(theirs[name], rel=1e-9, abs=1e-9), (update, name)
    for name, value in wanted["weights"].items():
        torch.testing.assert_close(found["weights"][name], value, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("config, parts", CASES)
def test_parts_equal_the_batch(config, parts):
    """Losses, gradient norm and weights after three updates; parts without objects are among."""
    whole = train(config)
    assert any(not any(counts[:2]) or not any(counts[2:]) for counts in OBJECTS)
    moved = build(config).double().state_dict()
    assert any((whole["weights"][name] != value).any() for name, value in moved.items())
    assert_equal_runs(train(config, accumulate=parts), whole)


@pytest.mark.parametrize("parts", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_parts_and_processes_equal_the_batch(parts, tmp_path):
    """Two processes of two images, each in one part or two; one has no objects at first."""
    assert_equal_runs(train_in_processes(tmp_path, 2, PLAIN, parts), train(PLAIN))


def test_parts_divided_by_their_own_number_would_not_be_equal():
    """What the law above is about: without the normaliser of the batch, losses differ."""
    model, batch = build(PLAIN).double(), batches()[2]
    model.backbone.eval()
    whole = sum(model(batch).values())
    parts = sum(sum(model(batch[i : i + 2]).values()) for i in (0, 2))
    assert abs(parts / whole - 1) > 0.1


def test_the_given_number_is_what_losses_are_divided_by():
    instances = [image["instances"] for image in batches()[0]]
    assert Targets.from_instances(instances).num_boxes == 4
    given = Targets.from_instances(instances, torch.float64, num_boxes=torch.tensor(7.5))
    assert given.num_boxes == 7.5 and given.num_boxes.dtype == torch.float64


def _steps(trainer: Trainer) -> None:
    for trainer.iter in range(UPDATES):
        with EventStorage(trainer.iter):
            trainer.run_step()


class Counting(nn.Module):
    """Counts its calls; a term may become NaN for a given image, and terms may differ."""

    def __init__(self, bad: int = -1, odd: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.bad, self.odd, self.calls = bad, odd, []

    def forward(self, batch, num_boxes=None):
        ids = [image["image_id"] for image in batch]
        self.calls.append((ids, num_boxes))
        loss = self.weight * (float("nan") if self.bad in ids else 1.0)
        return {f"loss{ids[0] if self.odd else ''}": loss}


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, batch):
        return {"loss": self.weight}


def images(count: int = IMAGES) -> list[dict]:
    return [
        {"image_id": i, "file_name": f"{i}.jpg", "instances": range(i % 2)} for i in range(count)
    ]


def make(model: nn.Module, count: int = IMAGES, **options) -> Trainer:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return Trainer(model, itertools.repeat(images(count)), optimizer, **options)


def test_parts_are_in_order_and_of_equal_size():
    model = Counting()
    _steps(make(model, accumulate=2))
    assert [ids for ids, _ in model.calls] == [[0, 1], [2, 3]] * UPDATES
    assert [number.item() for _, number in model.calls] == [2] * 2 * UPDATES


def test_one_part_leaves_the_call_as_it_is():
    model = Counting()
    _steps(make(model))
    assert model.calls == [([0, 1, 2, 3], None)] * UPDATES
    _steps(make(Plain()))


def test_images_of_the_bad_part_are_named():
    with pytest.raises(NonFiniteError) as caught:
        _steps(make(Counting(bad=2), accumulate=2))
    assert caught.value.images == ("image_id 2, file 2.jpg", "image_id 3, file 3.jpg")
    assert math.isnan(caught.value.terms["loss"])


def test_refusals():
    with pytest.raises(ConfigError, match="of Plain takes no num_boxes"):
        make(Plain(), accumulate=2)
    with pytest.raises(ConfigError, match="5 images.*train.accumulate=2 equal parts"):
        _steps(make(Counting(), 5, accumulate=2))
    with pytest.raises(ConfigError, match="1 images"):
        _steps(make(Counting(), 1, accumulate=2))
    with pytest.raises(ValueError, match="same loss terms"):
        _steps(make(Counting(odd=True), accumulate=2))
    with pytest.raises(ValueError, match="train.accumulate must be"):
        make(Counting(), accumulate=0)


@pytest.mark.parametrize(
    "parts, words",
    [("3", "16 images for each of 1 processes.*of 16"), ("0", "at least 1"), ("a", "whole")],
)
def test_setup_refuses_what_cannot_be_divided(parts, words, repository, tmp_path):
    config = str(repository / "configs" / PLAIN)
    given = ["--config-file", config, f"train.output_dir={tmp_path}", f"train.accumulate={parts}"]
    with pytest.raises(ConfigError, match=words):
        setup(default_argument_parser().parse_args(given))
