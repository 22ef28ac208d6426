"""The training step: mixed precision, gradient clipping, and a guard against NaN and infinity."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from detectron2.engine import SimpleTrainer
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn

from ..arguments import require_whole
from ..data import TrainLoader
from ..errors import NonFiniteError
from ..seeding import Purpose, seed_generators
from .accumulation import Accumulation
from .ema import WeightAverage
from .gradients import gradient_norms, scale_gradients
from .terms import (
    as_scalar,
    check_losses,
    describe_images,
    mean_over_processes,
    supervision_sums,
)

logger = logging.getLogger(__name__)
_LOOP_LOGGER = "detectron2.engine.train_loop"


class Trainer(SimpleTrainer):
    """detectron2's trainer for a model that returns weighted losses by name.

    Each loss of a step is copied to the host once, together with the gradient norm; the guard
    and the log read that copy, so a step waits for the device once (loss scaling for fp16 reads
    one flag more, after that copy). The guard acts before the optimizer does: when training
    stops, the weights are still those of the last good step.

    What is random in a step (the images, their augmentation, dropout, noise) depends on the seed,
    the iteration and the rank, and on nothing that happened before.

    Args:
        model: in training it returns ``{"<supervision>/<layer>/<term>": scalar}``; the sum is
            minimised.
        data_loader: yields lists of detectron2's dataset dicts, without end: a
            :class:`ms_detr.data.TrainLoader`, which is started where training starts. Any other
            iterable is read as it comes.
        optimizer: its parameters are those that are clipped.
        amp_dtype: type that autocast computes in, or None to compute in the model's own.
            ``torch.float16`` brings a gradient scaler along.
        max_norm: gradients are scaled down to this total L2 norm; None leaves them alone.
        seed: of everything random, at least 0; the same in all processes.
        accumulate: an update is computed in so many parts, see :class:`Accumulation`.
        ema: an average of the model's weights, which every update of them is added to.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable[Any],
        optimizer: torch.optim.Optimizer,
        *,
        amp_dtype: torch.dtype | None = None,
        max_norm: float | None = 0.1,
        seed: int = 0,
        accumulate: int = 1,
        ema: WeightAverage | None = None,
    ) -> None:
        require_whole("seed of the trainer", seed, 0)
        super().__init__(model, (), optimizer)  # detectron2 0.5 would start the loader here
        self.data_loader = data_loader
        self.seed = seed
        self.ema = ema
        self._batches: Iterator[Any] | None = None
        self._accumulation = Accumulation(model, accumulate)
        self._suspects: Any = None  # the images that an error may come from
        self.device_type = next(model.parameters()).device.type
        self.amp_dtype = amp_dtype
        self.max_norm = max_norm
        self.scaler = torch.amp.GradScaler(self.device_type, enabled=amp_dtype == torch.float16)
        self.skipped_steps = 0
        self.failed = False
        names = {id(p): name.removeprefix("module.") for name, p in model.named_parameters()}
        self._parameters = [
            (names.get(id(p), "(not in the model)"), p)
            for group in optimizer.param_groups
            for p in group["params"]
        ]

    def train(self, start_iter: int, max_iter: int) -> None:
        """Trains; a non-finite value is logged as its message, without a traceback."""
        loop_logger = logging.getLogger(_LOOP_LOGGER)
        loop_logger.addFilter(_state_non_finite)
        try:
            self._begin_data(start_iter)
            super().train(start_iter, max_iter)
        finally:
            loop_logger.removeFilter(_state_non_finite)

    def _begin_data(self, start_iter: int) -> None:
        """Makes the next batch that of iteration ``start_iter``."""
        if isinstance(self.data_loader, TrainLoader):
            self._batches = self.data_loader.start(self.seed, start_iter)
            return
        logger.warning(
            "the training data come from a %s, whose order a resumed run does not continue; "
            "ms_detr.data.build_train_loader makes loaders whose order it does",
            type(self.data_loader).__name__,
        )
        self._batches = iter(self.data_loader)

    def run_step(self) -> None:
        """One iteration; see the class for what it guarantees.

        Raises:
            NonFiniteError: a loss, a gradient or a prediction is NaN or infinite.
        """
        if not self.model.training:
            raise RuntimeError("the model was left in evaluation mode: call model.train()")
        if self._batches is None:
            self._begin_data(self.iter)
        start = time.perf_counter()
        self._suspects = None
        try:
            batch = next(self._batches)
            data_time = time.perf_counter() - start
            seed_generators(Purpose.STEP, self.seed, self.iter, comm.get_rank())
            self._step(batch, data_time)
        except NonFiniteError as error:
            self.failed = True
            raise error.located(self.iter, describe_images(self._suspects)) from error.__cause__
        except Exception:
            self.failed = True
            raise

    def _step(self, batch: Any, data_time: float) -> None:
        self.optimizer.zero_grad(set_to_none=True)  # first, so that the forward has the memory
        parts = self._accumulation.split(batch)
        names, losses_PT = self._backward(parts, self._accumulation.options(batch))
        self.scaler.unscale_(self.optimizer)
        named = [(name, p.grad) for name, p in self._parameters if p.grad is not None]
        gradients = [gradient for _, gradient in named]
        norms = gradient_norms(gradients) if gradients else losses_PT.new_zeros(1)
        norm = torch.linalg.vector_norm(norms)
        losses_here = losses_PT.sum(0)
        losses_all = mean_over_processes(losses_here)
        numbers = torch.cat([norm[None], losses_PT.sum(1), losses_here, losses_all])
        norm_value, *values = numbers.tolist()  # the one wait
        sums, values = values[: len(parts)], values[len(parts) :]

        bad = [part for part, total in zip(parts, sums) if not math.isfinite(total)]
        self._suspects = [image for part in bad for image in part] or batch
        check_losses(dict(zip(names, values)), dict(zip(names, values[-len(names) :])))
        if math.isfinite(norm_value):
            if self.max_norm is not None:
                scale_gradients(gradients, min(1.0, self.max_norm / (norm_value + 1e-6)))
        else:
            self._check_gradients([name for name, _ in named], norms)
        self._log(dict(zip(names, values[-len(names) :])), norm_value, data_time)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.ema is not None and math.isfinite(norm_value):  # else the step was skipped
            self.ema.update()

    def _backward(
        self, parts: Sequence[Any], options: dict[str, Tensor]
    ) -> tuple[list[str], Tensor]:
        """Adds the gradients of all parts; names of the terms, and their values (parts, terms)."""
        names: list[str] = []
        rows = []
        for number, part in enumerate(parts):
            self._suspects = part
            with self._accumulation.exchange(number):
                with torch.autocast(
                    self.device_type, dtype=self.amp_dtype, enabled=self.amp_dtype is not None
                ):
                    losses = self._forward(part, options)
                stacked = torch.stack([as_scalar(name, loss) for name, loss in losses.items()])
                self.scaler.scale(stacked.sum()).backward()
            names = names or list(losses)
            if list(losses) != names:
                raise ValueError(
                    f"with train.accumulate, all parts of a batch must have the same loss terms; "
                    f"one has {names}, another {list(losses)}"
                )
            rows.append(stacked.detach())
        return names, torch.stack(rows)

    def _forward(self, part: Any, options: dict[str, Tensor]) -> dict[str, Tensor]:
        try:
            return self.model(part, **options)
        except NonFiniteError as error:
            # Matching is the only part of a model that has to look at the numbers; the loss
            # terms are looked at after the forward, all together.
            error.while_matching = True
            raise

    def _check_gradients(self, names: Sequence[str], norms: Tensor) -> None:
        """Raises, unless the gradient scaler is still looking for its scale and skips the step."""
        if self.scaler.is_enabled() and self.scaler.get_scale() > 1.0:
            self.skipped_steps += 1
            logger.info(
                "iteration %d: gradients overflow at loss scale %g, the step is skipped",
                self.iter, self.scaler.get_scale(),
            )  # fmt: skip
            return
        sizes = norms.tolist()
        bad = [name for name, size in zip(names, sizes) if not math.isfinite(size)]
        raise NonFiniteError(
            f"the gradient norm is not finite, although every loss of this process is: "
            f"{len(bad)} of {len(names)} parameters have such a gradient; the first are",
            parameters=bad[:10],
        )

    def _log(self, terms: Mapping[str, float], norm: float, data_time: float) -> None:
        """Stores every term, each supervision's sum and the total, averaged over processes."""
        if not comm.is_main_process():
            return
        storage = get_event_storage()
        storage.put_scalar("data_time", data_time)
        storage.put_scalar("total_loss", sum(terms.values()))
        storage.put_scalars(**{**supervision_sums(terms), **terms})
        if math.isfinite(norm):
            storage.put_scalar("grad_norm", norm)
        if self.scaler.is_enabled():
            storage.put_scalar("loss_scale", self.scaler.get_scale(), smoothing_hint=False)
            storage.put_scalar("skipped_steps", self.skipped_steps, smoothing_hint=False)

    def state_dict(self) -> dict[str, Any]:
        """The state of detectron2's trainer, the seed, and what is used of average and scaler."""
        state = super().state_dict()
        state["seed"] = self.seed
        if self.ema is not None:
            state["ema"] = self.ema.state_dict()
        if self.scaler.is_enabled():
            state["grad_scaler"] = self.scaler.state_dict()
            state["skipped_steps"] = self.skipped_steps
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores :meth:`state_dict`; a run may go on with or without fp16."""
        super().load_state_dict(state_dict)
        saved = state_dict.get("seed", self.seed)
        if saved != self.seed:
            logger.warning("the checkpoint's seed %d is continued, not %d", saved, self.seed)
            self.seed = saved
        if self.ema is not None and "ema" in state_dict:
            self.ema.load_state_dict(state_dict["ema"])
        if self.scaler.is_enabled() and "grad_scaler" in state_dict:
            self.scaler.load_state_dict(state_dict["grad_scaler"])
            self.skipped_steps = state_dict["skipped_steps"]


def _state_non_finite(record: logging.LogRecord) -> bool:
    """Turns detectron2's record of an exception into the exception's own words."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, NonFiniteError):
        record.msg, record.args, record.exc_info = "Training stops: %s", (str(error),), None
    return True
