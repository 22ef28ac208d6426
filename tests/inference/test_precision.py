"""bfloat16: what is of it, what is not, and how far predictions move."""

from __future__ import annotations

import pytest
import torch
from detections import FAMILIES, batch, detect, detector
from torch import Tensor

from ms_detr.inference import prepare_for_inference
from ms_detr.inference.precision import InFloat32

BATCH = batch((224, 161), (97, 288))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_detects(family: str) -> None:
    model = detector(family)
    ready = prepare_for_inference(model, dtype=torch.bfloat16)
    for found, wanted in zip(detect(ready, BATCH), detect(model, BATCH), strict=True):
        assert found.scores.dtype == found.pred_boxes.tensor.dtype == torch.float32
        assert found.scores.isfinite().all() and found.pred_boxes.tensor.isfinite().all()
        # Which proposal comes first changes with the last bit; the scores as a whole do not.
        assert (found.scores - wanted.scores).abs().median() < 0.03
        if wanted.has("pred_masks"):
            assert found.pred_masks.shape == wanted.pred_masks.shape


@pytest.mark.parametrize("family", ["one stage", "fixed references", "Conditional"])
def test_drift_of_every_query(family: str) -> None:
    """Without a first stage queries keep their order, so each is compared with itself."""
    model = detector(family)
    ready = prepare_for_inference(model, dtype=torch.bfloat16)
    images = torch.randn(2, 3, 160, 224, generator=torch.Generator().manual_seed(0))

    def predict(detector) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            found = detector.predict(detector.detect(images, [(160, 224), (100, 130)])[0])
        return found.logits_BNK.sigmoid(), found.boxes_BN4

    for found, wanted in zip(predict(ready), predict(model), strict=True):
        assert found.dtype == torch.float32
        difference = (found - wanted).abs()
        assert 0 < difference.median() < 5e-3 and difference.max() < 5e-2


def test_products_are_of_bfloat16_and_places_are_not() -> None:
    ready = prepare_for_inference(detector("masks"), dtype=torch.bfloat16)
    dtypes = {name: parameter.dtype for name, parameter in ready.named_parameters()}
    for name in ("backbone.stem.conv1.weight", "encoder.layers.0.attention.value_proj.weight",
                 "decoder.layers.1.self_attention.in_proj_weight",
                 "mask_head.pixel_decoder.output.weight"):  # fmt: skip
        assert dtypes[name] == torch.bfloat16, name
    wide = [name for name, dtype in dtypes.items() if dtype == torch.float32]
    for part in ("norm", "class_head", "box_head", "level_embed"):
        assert any(part in name for name in wide), part
        assert not any(part in name for name in dtypes.keys() - set(wide)), part


def test_points_of_learned_queries_are_exact() -> None:
    """They do not depend on the image, so nothing but rounding could move them."""
    for family in ("one stage", "Conditional"):
        model = detector(family)
        ready = prepare_for_inference(model, dtype=torch.bfloat16)
        images = torch.zeros(1, 3, 96, 96)
        with torch.no_grad():
            points = [m.detect(images, [(96, 96)])[0].references[0] for m in (ready, model)]
        torch.testing.assert_close(points[0], points[1], rtol=0, atol=1e-6)


def test_autocast_does_not_reach_what_is_kept_out_of_it() -> None:
    linear = InFloat32(torch.nn.Linear(8, 8))
    x = torch.randn(4, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(linear(x), linear.module.forward(x).float()) is False
        assert linear(x.bfloat16()).dtype == torch.float32
    assert torch.equal(linear(x), linear.module(x))
