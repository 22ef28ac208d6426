"""Recorded cases of the official code, as a folder holds them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from ..structures import Targets
from . import rules


class CaseError(ValueError):
    """A folder or file is not what the format of recorded cases says."""


class Facts(dict):
    """A json object; asking for what it lacks names the key."""

    def __missing__(self, key: str) -> None:
        raise CaseError(f"the json lacks {key!r}; it has {', '.join(sorted(self)[:8])}, ...")


def read_json(path: Path) -> Facts | list:
    """A json file, its objects as :class:`Facts`."""
    try:
        return json.loads(path.read_text(), object_hook=Facts)
    except (OSError, ValueError) as error:
        raise CaseError(f"{path}: cannot be read: {error}") from error


@dataclass(frozen=True)
class GoldenCase:
    """One run of the official code: its settings, its inputs by name, and what came out.

    Attributes:
        name: name of the files, without ending.
        facts: the json: args, criterion, targets, losses, indices.
        arrays: the npz: predictions, proposals, gradients; a name ends in the number type.
        shapes: shape of every key of the official state dict; None if the folder does not say.
    """

    name: str
    facts: Facts
    arrays: dict[str, np.ndarray]
    shapes: dict[str, tuple[int, ...]] | None

    @classmethod
    def load(cls, path: Path) -> GoldenCase:
        """Read NAME.json with the NAME.npz beside it.

        Raises:
            CaseError: one of them is missing, broken, or says nothing about losses.
        """
        facts = read_json(path)
        try:
            with np.load(path.with_suffix(".npz"), allow_pickle=False) as stored:
                arrays = dict(stored)
        except (OSError, ValueError, BadZipFile) as error:
            raise CaseError(f"{path.with_suffix('.npz')}: cannot be read: {error}") from error
        if not facts["criterion_results"]:
            raise CaseError(f"{path}: criterion_results is empty")
        keys = path.parent / f"keys_{facts['case']}.json"
        shapes = None
        if keys.is_file():
            shapes = {entry["key"]: tuple(entry["shape"]) for entry in read_json(keys)["keys"]}
        return cls(path.stem, facts, arrays, shapes)

    @property
    def args(self) -> Facts:
        """Command line of the official run."""
        return self.facts["args"]

    @property
    def has_own_class_heads(self) -> bool:
        """One-to-many supervision has class heads of its own: implementation (a)."""
        return any(key.startswith("class_embed_o2m.") for key in self.facts["grad_keys"])

    @property
    def shares_heads(self) -> bool:
        """All decoder layers have the same heads."""
        return not self.args["with_box_refine"]

    @cached_property
    def num_classes(self) -> int:
        """Outputs of the class heads."""
        return self.array("o2o_logits.f64r").shape[-1]

    def array(self, name: str) -> np.ndarray:
        """A recorded array."""
        if name not in self.arrays:
            raise CaseError(f"{self.name}.npz has no array {name}")
        return self.arrays[name]

    def official_state(self, shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
        """The official state dict, by rule."""
        return {
            key: torch.from_numpy(rules.weight(rules.canonical(key, self.shares_heads), shape))
            for key, shape in shapes.items()
        }

    def images(self) -> list[Tensor]:
        """Normalised images (3, H, W), float32."""
        return [torch.from_numpy(rules.image(*named)) for named in self.facts["images"]]

    def targets(self, variant: str, dtype: torch.dtype) -> Targets:
        """Ground truth of a variant."""
        images = self.facts["targets"][variant]
        labels = [label for image in images for label in image["labels"]]
        boxes = [box for image in images for box in image["boxes"]]
        return Targets(
            torch.tensor(labels, dtype=torch.int64),
            torch.tensor(boxes, dtype=dtype).reshape(-1, 4),
            tuple(len(image["labels"]) for image in images),
            torch.tensor(float(max(len(labels), 1)), dtype=dtype),
        )


def find_cases(folder: Path) -> list[Path]:
    """The json files of all cases of a folder, by name.

    Raises:
        CaseError: there is no such folder, or a case lacks one of its two files.
    """
    if not folder.is_dir():
        raise CaseError(f"{folder} is not a folder; give one with recorded cases (NAME.json, .npz)")
    arrays = {path.stem for path in folder.glob("*.npz")}
    cases = [
        path
        for path in sorted(folder.glob("*.json"))
        if path.name != "matchers.json" and not path.name.startswith("keys_")
    ]
    lonely = arrays.symmetric_difference(path.stem for path in cases)
    if lonely:
        raise CaseError(f"{folder}: {', '.join(sorted(lonely))}: needs both NAME.json and NAME.npz")
    return cases
