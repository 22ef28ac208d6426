"""What docs/masks.md tells to write does what it says."""

from __future__ import annotations

import re

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from small_models import CONFIGS, item, shrink

DOCUMENT = CONFIGS.parent / "docs" / "masks.md"
IMPORTS = "from detectron2.config import LazyCall as L\nfrom .models.ms_detr_mask import model\n"


def lines() -> list[str]:
    """The lines of the block with the alternatives."""
    blocks = re.findall(r"(?:^    .*\n|^\n)+", DOCUMENT.read_text(), re.MULTILINE)
    (block,) = [block for block in blocks if "EveryLayerMaskLosses" in block]
    return [line.strip() for line in block.splitlines() if line.strip()]


CHANGES = [line for line in lines() if line.startswith("model.")]
EXPECTED = {
    "QueryPixelMaskHead": lambda model: type(model.mask_head).__name__ == "QueryPixelMaskHead",
    "attention": lambda model: type(model.mask_head).__name__ == "AttentionMaskHead",
    "mask_losses": lambda model: model.supervisions["mixed"].masks is not None,
    "EveryLayerMaskLosses": lambda model: (
        len(model.supervisions["one_to_one"].masks.layers(2)) == 2
    ),
    "mask_costs": lambda model: "dice" in model.supervisions["one_to_one"].assigner.costs.costs,
}


@pytest.mark.parametrize("line", CHANGES)
def test_line(line, tmp_path):
    folder = tmp_path / "configs"
    folder.mkdir()
    for name in ("common", "models"):
        (folder / name).symlink_to(CONFIGS / name)
    imports = [found.replace("..common", ".common") for found in lines() if "import" in found]
    path = folder / "config.py"
    path.write_text(IMPORTS + "\n".join([*imports, line]) + "\n")
    torch.manual_seed(0)
    model = instantiate(shrink(LazyConfig.load(str(path)).model))
    (wanted,) = [name for name in EXPECTED if re.search(rf"\b{name}\)?$", line)]
    for name, holds in EXPECTED.items():
        assert holds(model) == (name == wanted), name
    losses = model([item(64, 80, 3)])
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_every_alternative_has_a_line():
    assert len(CHANGES) == len(EXPECTED)
