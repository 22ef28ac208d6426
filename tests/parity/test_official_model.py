"""The whole detector against values recorded from the official MS-DETR code, in float64.

Weights come from a rule (see the README beside the recorded files), through a table of names.
"""

from __future__ import annotations

import importlib.util
import json
import re

import numpy as np
import pytest
import torch
from detectron2.config import instantiate
from small_models import load

from ms_detr.structures import Targets
from ms_detr.supervision import TrainingOutputs

CASES = {
    "ms_detr_c_A": "models/ms_detr.py",
    "ms_detr_pp_300_A": "models/ms_detr_pp.py",
}

# our name -> official name; the first pattern that fits counts
NAMES = [
    (r"backbone\.stem\.conv1\.norm\.", "backbone.0.body.bn1."),
    (r"backbone\.stem\.", "backbone.0.body."),
    (r"backbone\.res(\d)\.(\d+)\.shortcut\.norm\.", r"backbone.0.body.layer\1.\2.downsample.1."),
    (r"backbone\.res(\d)\.(\d+)\.shortcut\.", r"backbone.0.body.layer\1.\2.downsample.0."),
    (r"backbone\.res(\d)\.(\d+)\.conv(\d)\.norm\.", r"backbone.0.body.layer\1.\2.bn\3."),
    (r"backbone\.res(\d)\.", r"backbone.0.body.layer\1."),
    (r"neck\.projections\.", "input_proj."),
    (r"neck\.extra_levels\.0\.", "input_proj.3."),
    (r"encoder\.level_embed", "transformer.level_embed"),
    (r"encoder\.layers\.(\d)\.attention\.", r"transformer.encoder.layers.\1.self_attn."),
    (r"encoder\.layers\.(\d)\.norm\.", r"transformer.encoder.layers.\1.norm1."),
    (r"encoder\.layers\.(\d)\.feed_forward\.norm\.", r"transformer.encoder.layers.\1.norm2."),
    (r"encoder\.layers\.(\d)\.feed_forward\.", r"transformer.encoder.layers.\1."),
    (r"decoder\.layers\.(\d)\.cross_attention\.", r"transformer.decoder.layers.\1.cross_attn."),
    (r"decoder\.layers\.(\d)\.cross_norm\.", r"transformer.decoder.layers.\1.norm1."),
    (r"decoder\.layers\.(\d)\.self_attention\.", r"transformer.decoder.layers.\1.self_attn."),
    (r"decoder\.layers\.(\d)\.self_norm\.", r"transformer.decoder.layers.\1.norm2."),
    (r"decoder\.layers\.(\d)\.feed_forward\.norm\.", r"transformer.decoder.layers.\1.norm3."),
    (r"decoder\.layers\.(\d)\.feed_forward\.", r"transformer.decoder.layers.\1."),
    (r"supervisions\.mixed\.branch\.layers\.(\d)\.norm\.", r"transformer.decoder.layers.\1.norm4."),
    (r"supervisions\.mixed\.branch\.layers\.(\d)\.linear1",
     r"transformer.decoder.layers.\1.linear3"),
    (r"supervisions\.mixed\.branch\.layers\.(\d)\.linear2",
     r"transformer.decoder.layers.\1.linear4"),
    (r"queries\.proposals\.projection\.", "transformer.enc_output."),
    (r"queries\.proposals\.norm\.", "transformer.enc_output_norm."),
    (r"queries\.proposals\.class_head\.", "class_embed.6."),
    (r"queries\.proposals\.box_head\.", "bbox_embed.6."),
    (r"queries\.projection\.", "transformer.pos_trans."),
    (r"queries\.norm\.", "transformer.pos_trans_norm."),
    (r"queries\.content\.", "query_embed."),
    (r"heads\.class_heads\.", "class_embed."),
    (r"heads\.box_heads\.", "bbox_embed."),
]  # fmt: skip


def official(name: str) -> str:
    for pattern, replacement in NAMES:
        found, count = re.subn("^" + pattern, replacement, name)
        if count:
            # stages are res2 to res5 here, layer1 to layer4 there
            return re.sub(r"body\.layer(\d)", lambda m: f"body.layer{int(m[1]) - 1}", found)
    raise KeyError(name)


@pytest.fixture(scope="module", params=CASES)
def case(request, shared):
    folder = shared / "golden"
    if not (folder / f"{request.param}.npz").is_file():
        pytest.skip(f"no recorded values at {folder}")
    spec = importlib.util.spec_from_file_location("goldengen", folder / "goldengen.py")
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    recorded = np.load(folder / f"{request.param}.npz")
    facts = json.loads((folder / f"{request.param}.json").read_text())

    node = load(CASES[request.param]).model
    node.heads.num_classes = 91
    node.encoder.dropout = 0.0
    model = instantiate(node)
    weights = {
        name: torch.from_numpy(generator.tensor_for_key(official(name), tensor.shape))
        for name, tensor in model.state_dict().items()
    }
    model.load_state_dict(weights)
    model.double().eval()
    sizes = [image.shape[1:] for image in generator.images("A")]
    states, proposals = model.detect(torch.from_numpy(generator.batch("A")[0]).double(), sizes)
    return model, TrainingOutputs(states, proposals, model.heads), recorded, facts, generator


def close(ours, theirs, tolerance=1e-9):
    theirs = torch.from_numpy(np.asarray(theirs))
    torch.testing.assert_close(ours.detach(), theirs, rtol=tolerance, atol=tolerance)


def test_predictions_of_all_layers(case):
    model, outputs, recorded, _, _ = case
    mixed = model.supervisions["mixed"]
    for name, tap, branch in (("o2o", "output", lambda x, _: x), ("o2m", "internal", mixed.branch)):
        found = [
            model.heads(branch(states, layer), reference, layer)
            for layer, (states, reference) in enumerate(
                zip(outputs.states.taps[tap], outputs.states.references)
            )
        ]
        close(torch.stack([f.boxes_BN4 for f in found]), recorded[f"{name}_boxes.f64"])
        logits = torch.stack([f.logits_BNK[..., ::10] for f in found])
        close(logits, recorded[f"{name}_logits10.f64"])


def test_proposals(case):
    _, outputs, recorded, _, _ = case
    close(outputs.proposals.boxes_BS4, recorded["enc_boxes.f64"])
    close(outputs.proposals.anchors_BS4, recorded["enc_anchors.f64"])
    close(outputs.proposals.logits_BSK[..., 0], recorded["enc_score.f64"])


def test_losses_and_gradients(case):
    model, outputs, recorded, facts, generator = case
    terms = {"class": "loss_ce", "l1": "loss_bbox", "giou": "loss_giou"}
    endings = {"one_to_one": "", "mixed": "_o2m", "proposals": "_enc"}
    names = {official(name): p for name, p in model.named_parameters()}
    for variant, result in facts["criterion_results"].items():
        images = facts["targets"][variant]
        labels = torch.tensor([label for image in images for label in image["labels"]])
        boxes = torch.tensor(
            [box for image in images for box in image["boxes"]], dtype=torch.float64
        ).reshape(-1, 4)
        targets = Targets(
            labels.long(),
            boxes,
            tuple(len(image["labels"]) for image in images),
            torch.tensor(float(max(len(labels), 1)), dtype=torch.float64),
        )
        losses = model.supervisions(outputs, targets)
        assert len(losses) == 39
        for key, loss in losses.items():
            supervision, layer, term = key.split("/")
            depth = "" if layer == "5" or supervision == "proposals" else f"_{layer}"
            weight = dict(model.supervisions[supervision].terms)[term].weight
            theirs = result["losses"]["f64"][terms[term] + depth + endings[supervision]]
            assert loss.item() / weight == pytest.approx(theirs, rel=1e-9, abs=1e-12), key
        if f"grad_{variant}.f64" not in recorded.files:
            continue
        model.zero_grad()
        sum(losses.values()).backward(retain_graph=True)
        for key, row in zip(facts["grad_keys"], recorded[f"grad_{variant}.f64"]):
            gradient = names[key].grad
            direction = torch.from_numpy(
                generator.rng("grad:" + key).standard_normal(tuple(gradient.shape))
            )
            assert gradient.norm().item() == pytest.approx(row[0], rel=1e-9, abs=1e-12), key
            along = (gradient * direction).sum().item()
            assert along == pytest.approx(row[3], rel=1e-9, abs=1e-9 * row[0] + 1e-12), key
