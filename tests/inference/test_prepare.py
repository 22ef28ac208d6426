"""A prepared detector detects what the detector does that it was made of."""

from __future__ import annotations

import copy

import pytest
import torch
from detections import FAMILIES, batch, detect, detector, differences
from scipy.optimize import linear_sum_assignment
from torch import nn

from ms_detr.inference import BFloat16Detector, PreparedDetector, prepare_for_inference
from ms_detr.inference.prepare import levers_for, prepared

# More tokens than are treated at once, padding in both directions, and a single pixel too many.
BATCHES = [batch((256, 320)), batch((224, 161), (97, 288), (160, 160))]
CPU = torch.device("cpu")


@pytest.mark.parametrize("family", FAMILIES)
def test_detections_are_the_same(family: str) -> None:
    same_detections(detector(family))


@pytest.mark.parametrize("family", ["MS-DETR", "masks"])
def test_detections_of_a_fresh_detector_are_the_same(family: str) -> None:
    same_detections(detector(family, trained=False))


def same_detections(model: nn.Module) -> None:
    """A prepared detector finds what the detector finds, in batches of one and of three sizes."""
    ready = prepare_for_inference(model)
    for inputs in BATCHES:
        for found, wanted in zip(detect(ready, inputs), detect(model, inputs), strict=True):
            assert found.image_size == wanted.image_size
            score, box = differences(found, wanted)
            assert score < 1e-4 and box < 0.02, (score, box)


@pytest.mark.parametrize("index", range(len(levers_for(CPU, torch.float32))))
def test_every_lever_alone_changes_nothing(index: int) -> None:
    model = detector("masks")
    ready = prepared(model, torch.float32, [levers_for(CPU, torch.float32)[index]])
    for found, wanted in zip(detect(ready, BATCHES[1]), detect(model, BATCHES[1]), strict=True):
        score, box = differences(found, wanted)
        assert score < 1e-4 and box < 0.02, (score, box)


def test_sixteen_images_are_detected_as_one_by_one() -> None:
    """Every size of a batch; images differ in size, so they are padded differently too."""
    ready = prepare_for_inference(detector("MS-DETR"))
    inputs = batch(*((96 + 16 * (i % 5), 176 - 16 * (i % 7)) for i in range(16)))
    model = detector("MS-DETR")
    for found, wanted in zip(detect(ready, inputs), detect(model, inputs), strict=True):
        score, box = differences(found, wanted)
        assert score < 1e-4 and box < 0.02, (score, box)
    for count in (1, 2, 3, 8):
        assert len(detect(ready, inputs[:count])) == count


def test_output_sizes_are_those_asked_for() -> None:
    inputs = [{**batch((128, 160))[0], "height": 64, "width": 40}]
    (found,) = detect(prepare_for_inference(detector("MS-DETR")), inputs)
    assert found.image_size == (64, 40)


def test_what_only_training_needs_is_left_out() -> None:
    model = detector("MS-DETR")
    ready = prepare_for_inference(model)
    assert ready.supervisions is None
    assert not any(parameter.requires_grad for parameter in ready.parameters())
    assert not any(isinstance(module, nn.Dropout) for module in ready.encoder.modules())
    kept, given = (sum(p.numel() for p in m.parameters()) for m in (ready, model))
    taught = sum(p.numel() for p in model.supervisions.parameters())
    # Without affine batch norms, but with a bias for each of their convolutions.
    assert taught > 0 and kept < given - taught


def test_boxes_are_made_of_chosen_tokens_only() -> None:
    ready = prepare_for_inference(detector("MS-DETR"))
    rows = []
    head = ready.queries.queries.proposals.box_head
    head.register_forward_hook(lambda _, inputs, __: rows.append(inputs[0].shape[:2]))
    detect(ready, BATCHES[0])
    assert rows == [(1, 12)]


def test_the_given_detector_stays_as_it_is() -> None:
    model = detector("MS-DETR")
    model.train()
    before = copy.deepcopy(model.state_dict())
    ready = prepare_for_inference(model, dtype=torch.bfloat16)
    detect(ready, BATCHES[0])
    assert model.training and not ready.training
    for name, value in model.state_dict().items():
        assert value.dtype == before[name].dtype and torch.equal(value, before[name]), name
    assert all(parameter.requires_grad for parameter in model.encoder.parameters())


def test_it_can_neither_be_trained_nor_loaded() -> None:
    model = detector("MS-DETR")
    ready = prepare_for_inference(model)
    assert ready.eval() is ready and ready.train(False) is ready
    with pytest.raises(ValueError, match="prepared for inference.*train the one that"):
        ready.train()
    with pytest.raises(ValueError, match="load the checkpoint first"):
        ready.load_state_dict(model.state_dict())


def test_what_cannot_be_prepared() -> None:
    model = detector("MS-DETR")
    with pytest.raises(ValueError, match="must be torch.float32 or torch.bfloat16, got torch.fl"):
        prepare_for_inference(model, dtype=torch.float16)
    with pytest.raises(ValueError, match="got a DataParallel.*model.module"):
        prepare_for_inference(nn.DataParallel(model))
    with pytest.raises(ValueError, match="prepared already"):
        prepare_for_inference(prepare_for_inference(model))


def test_shared_heads_stay_shared() -> None:
    model = detector("MS-DETR")
    model.decoder.layers[1].feed_forward = model.decoder.layers[0].feed_forward
    ready = prepare_for_inference(model)
    first, second = ready.decoder.layers
    assert first.feed_forward is second.feed_forward


def test_compiles_as_one_graph() -> None:
    """The tensor part has no break."""
    compiles("MS-DETR", torch.float32, "eager")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("family", ["MS-DETR", "DINO", "DAB", "one stage"])
def test_every_kind_compiles_as_one_graph(family: str, dtype: torch.dtype) -> None:
    compiles(family, dtype, "aot_eager")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_compiled_detector_predicts_the_same(dtype: torch.dtype) -> None:
    compiles("MS-DETR", dtype, "inductor")


def in_order_of(
    wanted: tuple[torch.Tensor, torch.Tensor], found: tuple[torch.Tensor, torch.Tensor]
) -> tuple[torch.Tensor, ...]:
    """The queries found, each in the place of its like: rounding decides the order of proposals."""
    distance = torch.cdist(torch.cat(wanted, -1).float(), torch.cat(found, -1).float())
    order = torch.stack([torch.from_numpy(linear_sum_assignment(d)[1]) for d in distance])
    return tuple(x.gather(1, order[..., None].expand_as(x)) for x in found)


def compiles(family: str, dtype: torch.dtype, backend: str) -> None:
    """Two shapes of a batch are predicted as without compiling."""
    torch.compiler.reset()
    ready = prepare_for_inference(detector(family), dtype=dtype)

    def predict(images: torch.Tensor, sizes: list[tuple[int, int]]):
        predictions = ready.predict(ready.detect(images, sizes)[0])
        return predictions.logits_BNK, predictions.boxes_BN4

    compiled = torch.compile(predict, fullgraph=True, dynamic=False, backend=backend)
    generator = torch.Generator().manual_seed(0)
    for height, width in ((96, 128), (128, 64)):
        images = torch.randn(2, 3, height, width, generator=generator)
        sizes = [(height, width), (height - 20, width - 30)]
        with torch.no_grad():
            found, wanted = compiled(images, sizes), predict(images, sizes)
        tolerance = 1e-4 if dtype == torch.float32 else 5e-2
        if dtype == torch.bfloat16:
            found = in_order_of(wanted, found)
        for actual, expected in zip(found, wanted, strict=True):
            torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


def test_kinds_of_prepared_detectors() -> None:
    model = detector("MS-DETR")
    assert type(prepare_for_inference(model)) is PreparedDetector
    assert type(prepare_for_inference(model, dtype=torch.bfloat16)) is BFloat16Detector
