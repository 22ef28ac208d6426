"""What docs/assigners.md tells to write, in config files and as overrides, does what it says."""

from __future__ import annotations

import re
import shlex

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from small_models import CONFIGS, item, shrink

from ms_detr.config import load_config
from ms_detr.engine.build import build
from ms_detr.errors import ConfigError

CONFIG = "ms_detr/ms_detr_r50_300q_12ep.py"
DOCUMENT = CONFIGS.parent / "docs" / "assigners.md"


def blocks() -> list[str]:
    """The indented blocks of the document."""
    found = re.findall(r"(?:^    .*\n)+", DOCUMENT.read_text(), re.MULTILINE)
    return [re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in found]


def command_lines() -> list[list[str]]:
    """Overrides of every training command."""
    lines = [line for block in blocks() for line in block.replace("\\\n", " ").splitlines()]
    words = [shlex.split(line) for line in lines if line.startswith("python train_net.py")]
    assert all(line[2:4] == ["--config-file", "CONFIG"] for line in words)
    return [line[4:] for line in words]


def snippets() -> list[str]:
    return [block for block in blocks() if block.startswith("from ")]


def mixed_of(cfg):
    """The mixed supervision of the shrunken model, which has learned a step."""
    torch.manual_seed(0)
    cfg.model = shrink(cfg.model)
    model = instantiate(cfg.model)
    losses = model([item(64, 80, 3)])
    assert all(torch.isfinite(loss) for loss in losses.values())
    return model.supervisions["mixed"]


def described(mixed) -> dict:
    return {
        "assigner": type(mixed.assigner).__name__,
        "k": mixed.assigner.k,
        "threshold": mixed.assigner.threshold,
        "random": getattr(mixed.assigner, "generator", None) is not None,
        "merge": type(mixed.merge).__name__,
        "branch": type(mixed.branch).__name__,
        "class_heads": mixed.class_heads and [head.out_features for head in mixed.class_heads],
        "box_heads": mixed.box_heads and len(mixed.box_heads),
    }


DEFAULT = {
    "assigner": "ReleasedTopKAssigner", "k": 6, "threshold": 0.4, "random": False,
    "merge": "NoneType", "branch": "LayerwiseFeedForward", "class_heads": None, "box_heads": None,
}  # fmt: skip
SWITCHED = {"assigner": "AllPairsTopKAssigner", "merge": "AppendMissing"}
OWN = {"class_heads": [5, 5], "box_heads": 2}


LINES = [{"random": True}, {"k": 4, "threshold": 0.5}, SWITCHED, OWN, {"branch": "Unchanged"}]


@pytest.mark.parametrize("number, changes", list(enumerate(LINES)))
def test_command_lines_of_the_document(number, changes):
    lines = command_lines()
    assert len(lines) == len(LINES)
    cfg = load_config(CONFIGS / CONFIG, lines[number])
    assert described(mixed_of(cfg)) == {**DEFAULT, **changes}


@pytest.mark.parametrize("number, changes", list(enumerate([{"random": True}, SWITCHED, OWN])))
def test_config_files_of_the_document(number, changes, tmp_path):
    found = snippets()
    assert len(found) == 3
    text = found[number].replace("from ..common", "from .common")
    folder = tmp_path / "configs"
    folder.mkdir()
    (folder / "common").symlink_to(CONFIGS / "common")
    (folder / "models").symlink_to(CONFIGS / "models")
    path = folder / "config.py"
    path.write_text(
        f"from detectron2.config import LazyCall as L\nfrom .models.ms_detr import model\n{text}"
    )
    assert described(mixed_of(LazyConfig.load(str(path)))) == {**DEFAULT, **changes}


def test_a_name_of_python_is_refused_on_the_command_line():
    cfg = load_config(CONFIGS / CONFIG, ["model.supervisions.mixed.class_heads=own_class_heads"])
    message = (
        r"^model.supervisions.mixed cannot be built: class_heads .* 'own_class_heads' \(str\); "
    )
    with pytest.raises(ConfigError, match=message + r"write class_heads=\{_target_: ms_detr.heads"):
        build(shrink(cfg.model), "model")


@pytest.mark.parametrize(
    "override, key, words",
    [
        ("mixed.terms.class.alpha=7", "mixed.terms.class", r"alpha of FocalLoss .*\[0, 1\], got 7"),
        ("mixed.terms.class.gamma=-2", "mixed.terms.class", "gamma of FocalLoss .*at least 0"),
        ("mixed.terms.l1.weight=null", "mixed.terms.l1", "weight of L1Loss .*, got None"),
        ("mixed.terms.l1=null", "mixed.terms", "term l1 must be of class LossTerm, got None"),
        ("mixed.assigner.threshold=null", "mixed.assigner", r"threshold .*\[0, 1\], got None"),
        ("mixed.assigner.k=null", "mixed.assigner", "k must be a whole number .*, got None"),
        ("one_to_one.assigner.costs.class.alpha=nan", "one_to_one.assigner.costs.class",
         "alpha of FocalCost .*, got nan"),
        ("mixed.assigner._target_=ms_detr.assigners.AllPairsTopKAssigner", "mixed.assigner",
         "it takes no positive_fraction; take that out"),
    ],
)  # fmt: skip
def test_refused_values_are_named_with_their_key(override, key, words):
    cfg = load_config(CONFIGS / CONFIG, [f"model.supervisions.{override}"])
    with pytest.raises(ConfigError, match=f"^model.supervisions.{key} cannot be built: .*{words}"):
        build(shrink(cfg.model), "model")
