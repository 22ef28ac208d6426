"""The training step: clipping, mixed precision, non-finite values, and its state."""

from __future__ import annotations

import itertools

import pytest
import torch
from detectron2.utils.events import EventStorage
from torch import nn

from ms_detr.engine import Trainer
from ms_detr.engine.terms import describe_images, supervision_sums
from ms_detr.errors import NonFiniteError

BATCH = [
    {"image_id": 7, "file_name": "a/7.jpg", "x": torch.tensor([1.0, 2.0])},
    {"image_id": 9, "file_name": "a/9.jpg", "x": torch.tensor([3.0, -1.0])},
]


class Quadratic(nn.Module):
    """Two terms of two supervisions; a subclass may spoil them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(2, 3)
        self.second = nn.Linear(3, 1)
        self.seen: list[torch.dtype] = []

    def forward(self, batch):
        hidden = self.first(torch.stack([image["x"] for image in batch]))
        out = self.second(hidden)
        self.seen.append(out.dtype)
        return self.losses(out)

    def losses(self, out):
        return {"one_to_one/0/l1": out.pow(2).sum(), "mixed/3/giou": 100 * out.pow(2).mean()}


def make(model: nn.Module, **options) -> Trainer:
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    return Trainer(model, itertools.repeat(BATCH), optimizer, **options)


def step(trainer: Trainer, iteration: int = 0) -> dict[str, float]:
    """One iteration; returns what it logged."""
    trainer.iter = iteration
    with EventStorage(iteration) as storage:
        trainer.run_step()
        return {name: value for name, (value, _) in storage.latest().items()}


def flat(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def reference_gradient(model: nn.Module) -> torch.Tensor:
    model.zero_grad()
    sum(model(BATCH).values()).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.mark.parametrize("max_norm", [0.1, 1e9, None])
def test_step_is_the_clipped_gradient(max_norm):
    """With SGD at rate 1 the weights move by exactly the gradient, scaled to the norm."""
    model = Quadratic()
    trainer = make(model, max_norm=max_norm)
    gradient, before = reference_gradient(model), flat(model)
    assert gradient.norm() > 1
    logged = step(trainer)
    factor = min(1.0, max_norm / gradient.norm().item()) if max_norm else 1.0
    torch.testing.assert_close(before - flat(model), gradient * factor, rtol=1e-4, atol=1e-5)
    assert logged["grad_norm"] == pytest.approx(gradient.norm().item(), rel=1e-5)


def test_clipping_equals_torch():
    ours, theirs = Quadratic(), Quadratic()
    step(make(ours, max_norm=0.1))
    reference_gradient(theirs)
    nn.utils.clip_grad_norm_(theirs.parameters(), 0.1)
    torch.optim.SGD(theirs.parameters(), lr=1.0).step()
    torch.testing.assert_close(flat(ours), flat(theirs))


def test_logs_terms_and_sums():
    class Model(Quadratic):
        def losses(self, out):
            zero = out.sum() * 0
            return {"mixed/0/a": zero + 1, "mixed/1/a": zero + 2, "proposals/0/l1": zero + 4}

    logged = step(make(Model()))
    assert logged["mixed/0/a"] == 1 and logged["mixed/1/a"] == 2
    assert logged["mixed"] == 3 and logged["proposals"] == 4 and logged["total_loss"] == 7
    assert supervision_sums({"plain": 1.0, "a/0/x": 2.0}) == {"a": 2.0}


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_term_is_named(bad):
    class Model(Quadratic):
        def losses(self, out):
            losses = super().losses(out)
            losses["mixed/3/giou"] = losses["mixed/3/giou"] * 0 + bad
            return losses

    model = Model()
    trainer, before = make(model), flat(model)
    with pytest.raises(NonFiniteError) as caught:
        step(trainer, iteration=41)
    message = str(caught.value)
    assert f"supervision mixed, layer 3, term giou: {bad}" in message
    assert "one_to_one" not in message and "matched" not in message
    assert "iteration 41" in message and "train.amp.enabled=false" in message
    for image in ("image_id 7, file a/7.jpg", "image_id 9, file a/9.jpg"):
        assert image in message
    assert isinstance(caught.value, FloatingPointError)
    assert torch.equal(flat(model), before), "weights must stay those of the last good step"


def test_opposite_infinities_name_both():
    class Model(Quadratic):
        def losses(self, out):
            return {"a/0/x": out.sum() * 0 + float("inf"), "b/1/y": out.sum() * 0 - float("inf")}

    with pytest.raises(NonFiniteError, match=r"(?s)supervision a, layer 0.*supervision b, layer 1"):
        step(make(Model()))


class SquareRootOfZero(torch.autograd.Function):
    """Finite forward, NaN backward."""

    @staticmethod
    def forward(_, x):
        return x.clone()

    @staticmethod
    def backward(_, grad):
        return grad * float("nan")


def test_non_finite_gradient_is_named():
    class Model(Quadratic):
        def forward(self, batch):
            hidden = self.first(torch.stack([image["x"] for image in batch]))
            return self.losses(self.second(SquareRootOfZero.apply(hidden)))

    model = Model()
    before = flat(model)
    with pytest.raises(NonFiniteError) as caught:
        step(make(model), iteration=5)
    message = str(caught.value)
    assert "first.weight" in message and "first.bias" in message
    assert "second" not in message, "only the parameters behind the fault"
    assert "iteration 5" in message and "a/7.jpg" in message
    assert torch.equal(flat(model), before)


def test_error_from_inside_the_model_gets_the_images():
    class Model(Quadratic):
        def losses(self, _):
            raise NonFiniteError("layer 2: the matcher got 3 predictions that are not finite")

    with pytest.raises(NonFiniteError) as caught:
        step(make(Model()), iteration=8)
    message = str(caught.value)
    assert "matcher got 3" in message and "iteration 8" in message and "a/9.jpg" in message
    assert "while predictions were matched" in message and "lower optimizer.lr" in message


def test_a_failing_loader_marks_the_run_as_failed():
    """Otherwise detectron2 evaluates after the last iteration as if it had been made."""

    def broken():
        yield BATCH
        raise OSError("image a/11.jpg is cut")

    model = Quadratic()
    trainer = Trainer(model, broken(), torch.optim.SGD(model.parameters(), lr=1e-3))
    step(trainer)
    assert not trainer.failed
    with pytest.raises(OSError, match="is cut"):
        step(trainer, 1)
    assert trainer.failed


@pytest.mark.parametrize("loss", [3.0, torch.ones(2)])
def test_what_is_no_scalar_loss_is_refused(loss):
    class Model(Quadratic):
        def losses(self, _):
            return {"mixed/0/x": loss}

    with pytest.raises(ValueError, match="mixed/0/x"):
        step(make(Model()))


def test_evaluation_mode_is_refused():
    trainer = make(Quadratic())
    trainer.model.eval()
    with pytest.raises(RuntimeError, match="evaluation mode"):
        step(trainer)


def test_bf16_computes_in_bf16_and_keeps_float32():
    model = Quadratic()
    step(make(model, amp_dtype=torch.bfloat16))
    assert model.seen == [torch.bfloat16]
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    plain = Quadratic()
    step(make(plain))
    assert plain.seen == [torch.float32]


def test_fp16_scales_and_still_takes_the_true_gradient():
    class Model(Quadratic):
        def losses(self, out):
            return {"one_to_one/0/l1": 0.01 * out.float().pow(2).sum()}

    scaled, plain = Model(), Model()
    before = flat(plain)
    logged = step(make(scaled, amp_dtype=torch.float16))
    step(make(plain))
    assert scaled.seen == [torch.float16]
    assert logged["loss_scale"] == 2.0**16
    torch.testing.assert_close(flat(scaled), flat(plain), rtol=0, atol=1e-4)
    assert (flat(plain) - before).norm() > 0.01


def overflowing(above: float) -> type[nn.Module]:
    """A model whose gradient is infinite as long as the loss is scaled to ``above`` or more."""

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(_, x):
            return x.clone()

        @staticmethod
        def backward(_, grad):
            return torch.where(grad.abs() >= above, torch.full_like(grad, float("inf")), grad)

    class Model(Quadratic):
        def losses(self, out):
            return {"one_to_one/0/l1": Function.apply(out.float().sum() * 0.1)}

    return Model


def test_fp16_overflow_skips_steps_until_the_scale_fits():
    model = overflowing(2.0**15)()
    trainer = make(model, amp_dtype=torch.float16)
    before = flat(model)
    logged = step(trainer, 0)
    assert torch.equal(flat(model), before) and "grad_norm" not in logged
    step(trainer, 1)
    assert torch.equal(flat(model), before) and trainer.skipped_steps == 2
    assert "grad_norm" in step(trainer, 2)
    assert not torch.equal(flat(model), before) and trainer.skipped_steps == 2


def test_fp16_overflow_at_every_scale_is_an_error():
    model = overflowing(0.0)()
    trainer = make(model, amp_dtype=torch.float16)
    with pytest.raises(NonFiniteError, match="gradient of second.weight"):
        for iteration in range(40):
            step(trainer, iteration)
    assert trainer.skipped_steps == 16  # from 2^16 to 1 by halves


def test_state_goes_on():
    model = overflowing(2.0**15)()
    trainer = make(model, amp_dtype=torch.float16)
    step(trainer, 0)
    other = make(Quadratic(), amp_dtype=torch.float16)
    other.load_state_dict(trainer.state_dict())
    assert other.scaler.get_scale() == 2.0**15 and other.skipped_steps == 1 and other.iter == 0
    plain = make(Quadratic())
    assert "grad_scaler" not in plain.state_dict()
    plain.load_state_dict(trainer.state_dict())  # fp16 was turned off between the runs


def test_one_wait_for_the_device(monkeypatch):
    """Without fp16 a step makes one copy to the host and reads no value one by one."""
    trainer = make(Quadratic())
    copies = []
    for name in ("tolist", "item", "cpu", "__bool__", "__float__", "numpy"):
        original = getattr(torch.Tensor, name)

        def spy(self, *args, _name=name, _original=original, **kwargs):
            copies.append(_name)
            return _original(self, *args, **kwargs)

        monkeypatch.setattr(torch.Tensor, name, spy)
    step(trainer)
    assert copies == ["tolist"]


def test_batches_of_any_kind_can_be_described():
    assert describe_images(BATCH) == ["image_id 7, file a/7.jpg", "image_id 9, file a/9.jpg"]
    assert describe_images([{"file_name": "x"}]) == ["image_id ?, file x"]
    assert describe_images(torch.ones(2)) == []
