"""The loop around the training step: it goes on where a checkpoint ends, and stops when told to."""

from __future__ import annotations

import logging
from typing import Any

from detectron2.engine import HookBase, SimpleTrainer
from detectron2.utils.events import EventStorage

from ..data.errors import DatasetError
from ..errors import ConfigError, NonFiniteError, OutputError
from .events import restore_storage, storage_state
from .histories import keep_short_histories
from .optimizer_state import check_shapes, in_order, parameter_names
from .preemption import Stopped, StopSignals

logger = logging.getLogger(__name__)

# Their messages say everything; a traceback would bury them.
_EXPLAINED = (ConfigError, DatasetError, NonFiniteError, OutputError)


class AfterCheckpoint(HookBase):
    """A hook whose ``after_step`` comes after the checkpoint of its iteration is saved.

    A run that goes on from that checkpoint calls it first, so that what the iteration still owed
    (evaluation, a line of metrics) is made up for. While it does, ``trainer.catching_up`` is true.
    """


class TrainingLoop(SimpleTrainer):
    """detectron2's loop and hooks, for runs that are killed and go on.

    Attributes:
        stopping: every process has agreed to stop after the present iteration.
        catching_up: the present iteration was done before the run was resumed.
        failed: an exception ended the loop.
        signals: what asks this process to stop.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.signals = StopSignals()
        self.stopping = self.catching_up = self.failed = False
        self._events: dict[str, Any] | None = None

    def train(self, start_iter: int, max_iter: int) -> None:
        """Trains from ``start_iter`` until ``max_iter``, or until told to stop.

        Hooks are called as detectron2 calls them. After the end ``trainer.iter`` is ``max_iter``;
        after a stop or an error it is the iteration that was last.
        """
        logger.info("training goes from iteration %d to %d", start_iter, max_iter)
        self.iter = self.start_iter = start_iter
        self.max_iter = max_iter
        with EventStorage(start_iter) as self.storage, self.signals:
            keep_short_histories(self.storage)
            restore_storage(self.storage, self._events or {})
            try:
                self.before_train()
                self._run(start_iter, max_iter)
            except Stopped:
                self.stopping = True
            except Exception as error:
                self.failed = True
                if isinstance(error, _EXPLAINED):
                    logger.error("Training stops: %s", error)
                else:
                    logger.exception("Training stops by an error:")
                raise
            finally:
                self.after_train()

    def _run(self, start_iter: int, max_iter: int) -> None:
        if self._events is not None:
            self._catch_up(start_iter - 1)
        for self.iter in range(start_iter, max_iter):
            self.before_step()
            self.run_step()
            self.after_step()
            if self.stopping:
                return
        self.iter = max_iter  # hooks can tell from it that training is complete

    def _catch_up(self, iteration: int) -> None:
        """What the iteration of the checkpoint still owed."""
        self.iter = self.storage.iter = iteration
        self.catching_up = True
        for hook in self._hooks:
            if isinstance(hook, AfterCheckpoint):
                hook.after_step()
        self.catching_up = False

    def state_dict(self) -> dict[str, Any]:
        """The state of detectron2's trainer, and the last values of everything that is logged."""
        state = super().state_dict()
        state["optimizer_class"] = type(self.optimizer).__qualname__
        state["parameter_names"] = parameter_names(self.model, self.optimizer)
        if hasattr(self, "storage"):
            state["events"] = storage_state(self.storage)
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores :meth:`state_dict`; the state of the optimizer by the names of its parameters.

        Raises:
            ConfigError: the state is of another optimizer, or of other parameters.
        """
        ours = type(self.optimizer).__qualname__
        saved = state_dict.get("optimizer_class", ours)
        if saved != ours:
            raise ConfigError(
                f"--resume: the checkpoint's optimizer is {saved}, the config's {ours}; resume "
                f"with the same, or take the weights alone with train.init_checkpoint=... and "
                f"another train.output_dir"
            )
        state = state_dict["optimizer"]
        if "parameter_names" in state_dict:
            names = parameter_names(self.model, self.optimizer)
            state = in_order(state, state_dict["parameter_names"], names)
        check_shapes(state, self.optimizer)
        try:
            super().load_state_dict({**state_dict, "optimizer": state})
        except ValueError as error:
            raise ConfigError(
                f"--resume: the checkpoint's optimizer has other parameters ({error}); resume with "
                f"the train.freeze and optimizer.params that the run was started with"
            ) from error
        self._events = state_dict.get("events", {})
