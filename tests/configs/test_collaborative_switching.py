"""What docs/collaborative.md tells to write on the command line does what it says."""

from __future__ import annotations

import re
import shlex

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from small_models import CONFIGS

from ms_detr.config import load_config

CONFIG = CONFIGS / "collaborative/co_deformable_detr_pp_atss_r50_300q_12ep.py"
DOCUMENT = CONFIGS.parent / "docs" / "collaborative.md"


def blocks() -> list[str]:
    """The indented blocks of the document, with the empty lines in them."""
    found = re.findall(r"(?:^    .*\n|^\n(?=    ))+", DOCUMENT.read_text(), re.MULTILINE)
    return [re.sub(r"^    ", "", block.strip("\n") + "\n", flags=re.MULTILINE) for block in found]


def command_lines() -> list[list[str]]:
    """Overrides of every training command."""
    lines = [line for block in blocks() for line in block.split("python train_net.py")[1:]]
    words = [shlex.split(line.replace("\\\n", " ")) for line in lines]
    assert all(line[:2] == ["--config-file", "CONFIG"] for line in words)
    return [line[2:] for line in words]


def described(cfg) -> dict:
    """What the whole model is made of; it is built, without memory for its weights."""
    with torch.device("meta"):
        supervisions = instantiate(cfg.model).supervisions
    found = {}
    for name, supervision in supervisions.named():
        source = supervision.source
        if source is not None:
            parts = (type(source.head).__name__, type(source.selection).__name__)
            found[name] = (*parts, supervision.weight, source.weight)
    assert (supervisions.adapter is None) == (not found)
    return found


USUAL = ("ATSSHead", "FilledPositives", 1.0, 2.0)
FCOS = ("FCOSHead", *USUAL[1:])
LINES = [
    {"atss": (*USUAL[:3], 3.0)},
    {"atss": (*USUAL[:2], 0.5, 2.0)},
    {},
    {"atss": FCOS},
    {"atss": USUAL, "fcos": FCOS},
    {"atss": ("ATSSHead", "PositivesOnly", 1.0, 2.0)},
]


@pytest.mark.parametrize("number, expected", list(enumerate(LINES)))
def test_command_lines_of_the_document(number, expected):
    lines = command_lines()
    assert len(lines) == len(LINES)
    assert described(load_config(CONFIG)) == {"atss": USUAL}
    assert described(load_config(CONFIG, lines[number])) == expected


def test_contents_of_boxes_alone():
    override = "model.supervisions.atss.source.features=null"
    assert override in DOCUMENT.read_text()
    assert load_config(CONFIG, [override]).model.supervisions.atss.source.features is None


def test_config_file_of_the_document(tmp_path):
    (text,) = (block for block in blocks() if block.startswith("from "))
    folder = tmp_path / "configs" / "mine"
    folder.mkdir(parents=True)
    for path in CONFIGS.iterdir():
        (folder.parent / path.name).symlink_to(path)
    (folder / "config.py").write_text(text)
    cfg = LazyConfig.load(str(folder / "config.py"))
    assert cfg == LazyConfig.load(str(CONFIGS / "combined/ms_co_atss_rcnn_pp_r50_300q_12ep.py"))
