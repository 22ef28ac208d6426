"""Weights of a detector of boxes in one of masks, and the mask head trained alone."""

from __future__ import annotations

import logging

import torch
from detectron2.config import instantiate
from detectron2.utils.events import EventStorage
from small_models import build, item, load, shrink

from ms_detr.engine import KeepFrozen, ReportingCheckpointer, Trainer, freeze_parts
from ms_detr.engine.parameters import get_parameter_groups

MODEL = "models/ms_detr_mask.py"
BATCH = [item(64, 80, 3, seed=1), item(48, 60, 2, seed=2)]


def test_weights_of_boxes_load_and_the_table_says_what_is_new(tmp_path, caplog):
    boxes = build("models/ms_detr.py", seed=7)
    torch.save({"model": boxes.state_dict()}, tmp_path / "boxes.pth")
    model = build(MODEL)
    fresh = {name: value.clone() for name, value in model.mask_head.state_dict().items()}
    with caplog.at_level(logging.INFO, logger="ms_detr"):
        ReportingCheckpointer(model).load(str(tmp_path / "boxes.pth"))
    state = model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in boxes.state_dict().items())
    after = model.mask_head.state_dict()
    assert all(torch.equal(after[name], value) for name, value in fresh.items())
    rows = table_of(caplog.text)
    assert rows["mask_head"] == [0, len(fresh), 0]
    assert all(row[1:] == [0, 0] for name, row in rows.items() if name != "mask_head")
    assert sum(row[0] for row in rows.values()) == len(boxes.state_dict())


def table_of(text: str) -> dict[str, list[int]]:
    lines = text[text.index("weights by part") :].splitlines()[3:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: [int(cell) for cell in row[1:]] for row in cells if len(row) == 4}


def test_table_of_other_weights(tmp_path, caplog):
    """Other shapes are new, and what the model lacks is not used."""
    model = build(MODEL)
    torch.save({"model": model.state_dict()}, tmp_path / "masks.pth")
    boxes = build("models/ms_detr.py", num_classes=7)
    with caplog.at_level(logging.INFO, logger="ms_detr"):
        ReportingCheckpointer(boxes).load(str(tmp_path / "masks.pth"))
    rows = table_of(caplog.text)
    assert rows["mask_head"] == [0, 0, len(model.mask_head.state_dict())]
    assert rows["heads"][1] == 4  # weight and bias of the class heads of two layers


def test_mask_head_alone_learns():
    """A step changes the mask head, bit for bit nothing else: no statistic, and no dropout."""
    recipe = load("mask/ms_detr_mask_head_r50_12ep.py")
    node = shrink(recipe.model)
    assert node.encoder.dropout > 0
    torch.manual_seed(0)
    model = instantiate(node)
    frozen = freeze_parts(model, recipe.train.freeze)
    optimizer = torch.optim.AdamW(get_parameter_groups(model, 1e-3), weight_decay=0.1)
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in model.mask_head.parameters()}
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer = Trainer(model, [BATCH, BATCH], optimizer)
    trainer.register_hooks([KeepFrozen(frozen)])
    model.train()  # as after an evaluation
    with EventStorage():
        trainer.train(0, 2)
    after = model.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(after[name], value)}
    assert changed == {f"mask_head.{name}" for name in model.mask_head.state_dict()}
    assert all(p.grad is None for n, p in model.named_parameters() if not n.startswith("mask_"))
