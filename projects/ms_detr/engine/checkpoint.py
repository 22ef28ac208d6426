"""Saving whole files, finding sound ones, and loading with a table of what came from where."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
from detectron2.utils import comm
from tabulate import tabulate

from ..errors import ConfigError
from .checkpoint_files import LAST, find_sound, has_checkpoints
from .files import write_atomically, write_text_atomically
from .safe_load import SafeCheckpointer

logger = logging.getLogger(__name__)


class ReportingCheckpointer(SafeCheckpointer):
    """The checkpointer of a run, whose files are whole, sound, and loaded with a report.

    A checkpoint that is being saved replaces an older one only when it is on the disk. To resume,
    the last one whose check sums are right is taken, and it has to be of this very model. Loading
    logs a line per part of the model: how many of its tensors were loaded, how many are new (not
    in the file, or there of another shape: they keep their initial values), and how many tensors
    of the file have no place in the model.
    """

    _resuming = False
    resumed_from = ""  # the name, without suffix, of the checkpoint that the run goes on from

    def save(self, name: str, **kwargs: Any) -> None:
        """Saves model and checkpointables as ``name``.pth, and notes it as the last one.

        Raises:
            OutputError: the file cannot be written; what was saved before is as it was.
        """
        state = {key: value.state_dict() for key, value in self.checkpointables.items()}
        self.save_content(name, {"model": self.model.state_dict(), **state, **kwargs})
        self.tag_last_checkpoint(f"{name}.pth")

    def save_content(self, name: str, content: dict[str, Any]) -> None:
        """Saves any content as ``name``.pth, without noting it as the last checkpoint."""
        if not self.save_dir or not self.save_to_disk:
            return
        path = os.path.join(self.save_dir, f"{name}.pth")
        logger.info("saving %s", path)
        write_atomically(path, lambda file: torch.save(content, file), "the checkpoint")

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Notes the name of the last checkpoint in ``last_checkpoint``."""
        if self.save_dir and self.save_to_disk:
            path = os.path.join(self.save_dir, LAST)
            write_text_atomically(path, last_filename_basename, "the name of the last checkpoint")

    def has_checkpoint(self) -> bool:
        """Whether a run left checkpoints in the directory, sound or not."""
        return bool(self.save_dir) and has_checkpoints(self.save_dir)

    def get_checkpoint_file(self) -> str:
        """The sound checkpoint to go on from; the first process looks, the others follow.

        Raises:
            ConfigError: none of them is sound, or not every process sees the file.
        """
        found: tuple[str, str] = ("", "")
        if comm.is_main_process():
            try:
                found = (find_sound(self.save_dir), "")
            except ConfigError as error:
                found = ("", str(error))
        path, defect = comm.all_gather(found)[0]
        if defect:
            raise ConfigError(defect)
        if not all(comm.all_gather(os.path.isfile(path))):
            raise ConfigError(
                f"--resume: not every process sees {path!r}; put train.output_dir on a file "
                f"system that all machines share"
            )
        return path

    def resume(self) -> dict[str, Any]:
        """Loads :meth:`get_checkpoint_file` with the state of everything.

        Returns:
            What else the checkpoint holds.

        Raises:
            ConfigError: it is of another model; or see :meth:`get_checkpoint_file`.
        """
        path = self.get_checkpoint_file()
        self._resuming, self.resumed_from = True, os.path.basename(path).removesuffix(".pth")
        try:
            return self.load(path)
        finally:
            self._resuming = False

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """:meth:`resume` where there is a checkpoint, else loads the weights of ``path``."""
        if resume and self.has_checkpoint():
            return self.resume()
        return self.load(path, checkpointables=[])

    def _load_model(self, checkpoint: Any) -> Any:
        model = getattr(self.model, "module", self.model)
        if self._resuming:
            _check_same_model(model.state_dict(), checkpoint["model"])
        names = list(model.state_dict())
        incompatible = super()._load_model(checkpoint)
        # Tensors of another shape are among them: detectron2 takes them out of the file first.
        new = {name.removeprefix("module.") for name in incompatible.missing_keys}
        logger.info("weights by part:\n%s", parts_table(names, new, incompatible.unexpected_keys))
        return incompatible


def _check_same_model(ours: dict[str, torch.Tensor], saved: dict[str, torch.Tensor]) -> None:
    """Raises ConfigError unless the checkpoint has every tensor of the model, and no other."""
    shapes = [{name: tuple(t.shape) for name, t in state.items()} for state in (ours, saved)]
    names = [name for name in shapes[0] | shapes[1] if shapes[0].get(name) != shapes[1].get(name)]
    if names:
        here, there = (shape.get(names[0], "not there") for shape in shapes)
        raise ConfigError(
            f"--resume: the checkpoint is of another model: {len(names)} tensors differ, the first "
            f"is {names[0]} ({here} in the model, {there} in the checkpoint); resume with the "
            f"config that the run was started with (its config.yaml), or take the weights alone "
            f"with train.init_checkpoint=... and another train.output_dir"
        )


def parts_table(names: Iterable[str], new: set[str], unused: Iterable[str]) -> str:
    """How many tensors of each part were loaded, are new, and were not used.

    Args:
        names: of all tensors of the model.
        new: of those that were not loaded.
        unused: of tensors of the file that the model does not have.
    """
    counts: dict[str, Counter[str]] = {}
    for name in names:
        part = counts.setdefault(name.partition(".")[0], Counter())
        part["new" if name in new else "loaded"] += 1
    for name in unused:
        counts.setdefault(name.removeprefix("module.").partition(".")[0], Counter())["unused"] += 1
    columns = ("loaded", "new", "unused")
    rows = [[part, *(count[column] for column in columns)] for part, count in counts.items()]
    return tabulate(rows, headers=["part", "loaded", "new", "not used"], tablefmt="pipe")
