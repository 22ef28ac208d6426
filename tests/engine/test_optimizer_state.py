"""The averages of an optimizer follow the names of parameters, not their order."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from detectron2.utils.events import EventStorage
from torch import nn

from ms_detr.engine import Trainer
from ms_detr.errors import ConfigError

SHAPES = {"first": (2, 3), "second": (4,), "third": (3, 2), "fourth": (4,)}


class Parts(nn.Module):
    """Parameters in the given order, each with a gradient of its own."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        for name in names:
            self.register_parameter(name, nn.Parameter(torch.full(SHAPES[name], float(len(name)))))

    def forward(self, batch) -> dict[str, torch.Tensor]:  # noqa: ARG002
        return {"loss": sum(p.sum() * (p.sum() + len(name)) for name, p in self.named_parameters())}


def trainer_of(*groups: tuple[str, ...], momentum: bool = False) -> Trainer:
    model = Parts(*itertools.chain(*groups))
    chosen = [{"params": [getattr(model, name) for name in names]} for names in groups]
    kind = torch.optim.SGD if momentum else torch.optim.AdamW
    optimizer = kind(chosen, lr=0.1, **({"momentum": 0.9} if momentum else {}))
    return Trainer(model, itertools.repeat([{}]), optimizer)


def run(trainer: Trainer, start: int, stop: int) -> dict[str, torch.Tensor]:
    for trainer.iter in range(start, stop):
        with EventStorage(trainer.iter):
            trainer.run_step()
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


@pytest.mark.parametrize("momentum", [False, True])
@pytest.mark.parametrize(
    "groups",
    [
        (("first", "second", "third", "fourth"),),
        (("fourth", "third", "second", "first"),),
        (("third", "first", "fourth", "second"),),
    ],
)
def test_a_run_goes_on_in_another_order(groups, momentum):
    whole = run(trainer_of(tuple(SHAPES), momentum=momentum), 0, 6)
    before, after = (
        trainer_of(tuple(SHAPES), momentum=momentum),
        trainer_of(*groups, momentum=momentum),
    )
    after.model.load_state_dict(run(before, 0, 3))
    after.load_state_dict(before.state_dict())
    for name, value in run(after, 3, 6).items():
        torch.testing.assert_close(value, whole[name], msg=name)


def test_in_groups_too():
    before = trainer_of(("first", "second"), ("third", "fourth"))
    after = trainer_of(("second", "first"), ("fourth", "third"))
    weights = run(before, 0, 3)
    after.model.load_state_dict(weights)
    after.load_state_dict(copy.deepcopy(before.state_dict()))
    found, expected = run(after, 3, 6), run(before, 3, 6)
    assert any((expected[name] != weights[name]).any() for name in weights)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=name)


@pytest.mark.parametrize(
    "groups, words",
    [
        ((("first", "second", "third"),), "1 of them, the first is fourth, only in the checkpoint"),
        ((("first", "second"), ("third", "fourth")), "in groups of 4 there, of 2, 2 here"),
    ],
)
def test_other_parameters_are_refused(groups, words):
    before = trainer_of(tuple(SHAPES))
    run(before, 0, 1)
    with pytest.raises(ConfigError, match=rf"other parameters \({words}\); .*train.freeze"):
        trainer_of(*groups).load_state_dict(before.state_dict())
    with pytest.raises(ConfigError, match=r"only in the config|of 2, 2 there, of 4 here"):
        before.load_state_dict(trainer_of(*groups).state_dict())


@pytest.mark.parametrize("momentum", [False, True])
def test_without_names_shapes_tell(momentum):
    """A checkpoint of an older version: fused updates with other shapes write anywhere."""
    before = trainer_of(tuple(SHAPES), momentum=momentum)
    run(before, 0, 1)
    state = before.state_dict()
    del state["parameter_names"]
    trainer_of(tuple(SHAPES), momentum=momentum).load_state_dict(state)
    other = trainer_of(("second", "first", "third", "fourth"), momentum=momentum)
    with pytest.raises(ConfigError, match=r"of shape \(2, 3\) for a parameter of shape \(4,\)"):
        other.load_state_dict(state)


def test_parameters_outside_the_model_keep_their_places():
    trainers = [trainer_of(tuple(SHAPES)) for _ in range(2)]
    for trainer in trainers:
        outside = [nn.Parameter(torch.ones(3)) for _ in range(2)]
        trainer.optimizer.add_param_group({"params": outside})
        for index, parameter in enumerate(outside):
            parameter.grad = torch.full((3,), 1.0 + index)
    trainers[0].optimizer.step()
    trainers[1].load_state_dict(trainers[0].state_dict())
    averages = [
        trainers[1].optimizer.state[p]["exp_avg"][0].item()
        for p in trainers[1].optimizer.param_groups[1]["params"]
    ]
    assert averages == pytest.approx([0.1, 0.2])
