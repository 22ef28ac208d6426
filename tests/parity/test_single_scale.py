"""Conditional DETR and DAB-DETR against values recorded from the code of their authors.

Recorded were the released transformers (Atten4Vis/ConditionalDETR at 8ea7c3f and
IDEA-Research/DAB-DETR at 723ddb8) with the heads of their detectors, in float64 with the weights
and maps that :func:`made` and :func:`inputs` give by a rule. Frequencies of sine features were
computed in float64 too, and references clamped as ours are, at 1e-5; otherwise nothing was changed.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest
import torch
from detectron2.config import instantiate
from small_models import change, load, shrink

RECORDED = json.loads((Path(__file__).parent / "single_scale.json").read_text())
MODELS = sorted(RECORDED)
CHANNELS = 256  # in the released code of both a fixed number


def pattern(shape: torch.Size, phase: float) -> torch.Tensor:
    """Numbers in [-1, 1] that look like noise and are the same everywhere."""
    index = torch.arange(shape.numel(), dtype=torch.float64)
    return torch.sin(index * index + phase).view(shape)


def made(name: str) -> torch.nn.Module:
    """A detector with two layers each and weights by the rule."""
    node = shrink(load(f"models/{name}.py").model)
    node.neck.embed_dim = CHANNELS
    change(node.encoder, dropout=0.0, num_heads=8)
    change(node.decoder.layer, num_heads=8)
    node.queries.num_queries = 3
    model = instantiate(node).double()
    with torch.no_grad():
        for phase, (key, parameter) in enumerate(sorted(model.named_parameters())):
            noise = pattern(parameter.shape, phase)
            if "norm" in key and key.endswith("weight"):
                parameter.copy_(1 + 0.1 * noise)
            elif parameter.dim() > 1 and not key.startswith("queries.embedding"):
                parameter.copy_(noise * (2 / parameter.shape[-1]) ** 0.5)
            else:
                parameter.copy_(0.5 * noise)
    return model.train()


def inputs() -> tuple[list[torch.Tensor], torch.Tensor]:
    """A map of two images of 4 x 5 and 3 x 4 cells, and the padding of the images."""
    maps = [2 * pattern(torch.Size([2, CHANNELS, 4, 5]), 0.5)]
    padding = torch.zeros(2, 128, 160, dtype=torch.bool)
    padding[1, 96:] = padding[1, :, 128:] = True
    return maps, padding


def objective(logits: list[torch.Tensor], boxes: list[torch.Tensor]) -> torch.Tensor:
    """Something to differentiate that looks at all predictions."""
    values = [*logits, *boxes]
    return sum((x * pattern(x.shape, 0.25 + i)).sum() for i, x in enumerate(values))


@cache
def computed(name: str) -> dict[str, list]:
    model = made(name)
    memory = model.encoder(*inputs())
    queries, _ = model.queries(memory)
    states = model.decoder(queries, memory, model.heads)
    found = [
        model.heads(state, reference, layer)
        for layer, (state, reference) in enumerate(zip(states.taps["output"], states.references))
    ]
    logits, boxes = [p.logits_BNK for p in found], [p.boxes_BN4 for p in found]
    objective(logits, boxes).backward()
    return {
        "logits": torch.stack(logits).tolist(),
        "boxes": torch.stack(boxes).tolist(),
        "gradients": {
            key: parameter.grad.norm().item()
            for key, parameter in model.named_parameters()
            if parameter.grad is not None
        },
    }


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("what", ["logits", "boxes"])
def test_predictions_of_all_layers(name, what):
    ours, theirs = (torch.tensor(x[what]) for x in (computed(name), RECORDED[name]))
    assert ours.std() > 0.05
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", MODELS)
def test_gradients_of_all_parameters(name):
    """Norms; also says which parameters have one."""
    ours, theirs = computed(name)["gradients"], RECORDED[name]["gradients"]
    assert ours.keys() == theirs.keys()
    for key, norm in theirs.items():
        assert ours[key] == pytest.approx(norm, rel=1e-6, abs=1e-9), key
