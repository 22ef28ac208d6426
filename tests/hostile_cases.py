"""One way to state a hostile input: a name, what makes it, and the words of the refusal."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

_CONTENT: dict[str, Any] = {
    "images": [
        {"id": 10, "file_name": "a.png", "width": 60, "height": 40},
        {"id": 11, "file_name": "b.png", "width": 32, "height": 32},
    ],
    "annotations": [
        {
            "id": 1,
            "image_id": 10,
            "category_id": 3,
            "bbox": [5.0, 5.0, 20.0, 10.0],
            "area": 200.0,
            "iscrowd": 0,
            "segmentation": [[5.0, 5.0, 25.0, 5.0, 25.0, 15.0, 5.0, 15.0]],
        },
        {
            "id": 2,
            "image_id": 11,
            "category_id": 8,
            "bbox": [1, 2, 8, 9],
            "area": 72,
            "iscrowd": 0,
            "segmentation": [[1, 2, 9, 2, 9, 11]],
        },
    ],
    "categories": [{"id": 8, "name": "dog"}, {"id": 3, "name": "cat"}],
}


@dataclass(frozen=True)
class Case:
    """A row of a table.

    Attributes:
        name: says what is hostile.
        make: makes the input, from whatever the test of the table hands it.
        words: what the refusal must say: the culprit, the value, the mend.
        options: of the call under test.
    """

    name: str
    make: Callable[..., Any]
    words: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)

    def require(self, message: str) -> None:
        """Asserts that a refusal says what it must, in a text that a terminal can show."""
        lacking = [word for word in self.words if word not in message]
        assert not lacking, f"{lacking} not in: {message}"
        assert message.replace("\n", "").isprintable()


def table(cases: Sequence[Case]) -> pytest.MarkDecorator:
    """Runs a test once for each row."""
    assert len({case.name for case in cases}) == len(cases)
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


@dataclass
class HostileSet:
    """A small sound data set to be broken: `content` becomes the json unless a row writes one."""

    root: Path
    content: dict[str, Any] = field(default_factory=lambda: copy.deepcopy(_CONTENT))

    def __post_init__(self) -> None:
        random = np.random.default_rng(0)
        for image in self.content["images"]:
            pixels = random.integers(0, 256, (image["height"], image["width"], 3), dtype=np.uint8)
            Image.fromarray(pixels).save(self.root / image["file_name"])

    @property
    def json_file(self) -> Path:
        return self.root / "instances.json"

    @property
    def annotations(self) -> list[dict]:
        return self.content["annotations"]

    @property
    def images(self) -> list[dict]:
        return self.content["images"]

    def write(self, data: bytes | str | None = None) -> None:
        """Writes the json: the content, unless something else is given."""
        text = json.dumps(self.content) if data is None else data
        self.json_file.write_bytes(text.encode() if isinstance(text, str) else text)
