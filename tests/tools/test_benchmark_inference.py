"""The benchmark of inference: arms agree, drift is what it says, figures come out."""

from __future__ import annotations

import json
import sys

import pytest
import torch


@pytest.fixture(scope="module", autouse=True)
def tools(repository):
    """The tools import each other by name, as scripts do."""
    sys.path.insert(0, str(repository / "tools"))
    yield
    sys.path.remove(str(repository / "tools"))


def predictions(count: int = 120, classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    # One class an object: boxes of others are never meant.
    logits = torch.full((1, count, classes), -20.0)
    logits[0, torch.arange(count), torch.arange(count) % classes] = torch.randn(
        count, generator=generator
    )
    centers = torch.rand(1, count, 2, generator=generator)
    return logits, torch.cat([centers, torch.full((1, count, 2), 0.3)], -1)


def test_drift_of_shuffled_predictions_is_none():
    from inference_drift import drift

    logits, boxes = predictions()
    order = torch.randperm(120, generator=torch.Generator().manual_seed(1))
    found = drift((logits[:, order], boxes[:, order]), (logits, boxes))
    assert found.score < 1e-6 and (found.box, found.lost) == (0, 0)


def test_drift_is_the_largest_difference():
    from inference_drift import drift

    logits, boxes = predictions()
    best = logits.amax(-1).argmax()
    moved = boxes.clone()
    moved[0, best, 0] += 0.01
    found = drift((logits, moved), (logits, boxes))
    assert found.box == pytest.approx(0.01, abs=1e-6) and found.median_box == 0
    assert found.lost == 0 and found.score == 0


def test_what_is_not_found_is_counted():
    from inference_drift import drift

    logits, boxes = predictions()
    elsewhere = boxes.clone()
    elsewhere[..., :2] += 10
    assert drift((logits, elsewhere), (logits, boxes)).lost == 100


def test_an_arm_that_predicts_something_else_is_not_timed():
    import inference_jobs

    logits, boxes = predictions()
    inference_jobs.agreed("same", (logits, boxes), (logits, boxes))
    with pytest.raises(RuntimeError, match="wrong does not predict what the detector does"):
        inference_jobs.agreed("wrong", (logits, boxes + 0.01), (logits, boxes))


def test_exported_form_predicts_the_same():
    """What the peers get: deformable attention by grid_sample."""
    import inference_jobs
    import inference_peers
    import small_models

    from ms_detr.inference.replace import replace_modules
    from ms_detr.layers import MultiScaleDeformableAttention

    images = torch.randn(1, 3, 96, 128, generator=torch.Generator().manual_seed(0))
    for name in ("models/ms_detr.py", "models/ms_detr_one_stage.py"):
        model = inference_jobs.trained_like(small_models.build(name)).eval()
        with torch.no_grad():
            wanted = inference_peers.Detect(model)(images)
            replace_modules(
                model, MultiScaleDeformableAttention, inference_peers.GridSampleAttention
            )
            inference_jobs.agreed(name, inference_peers.Detect(model)(images), wanted)


@pytest.mark.slow
def test_figures(tmp_path, capsys):
    import benchmark_inference
    import inference_peers

    file, picture = tmp_path / "inference.json", tmp_path / "inference.png"
    arguments = ["--quick", "--runs", "5", "--threads", "1"]
    code = benchmark_inference.main([*arguments, "--json", str(file), "--plot", str(picture)])
    figures = json.loads(file.read_text())["figures"]
    names = [figure["name"] for figure in figures]
    assert "batch 1: unprepared / prepared, float32" in names
    assert "bfloat16, batch 2: images per second" in names
    assert "float32, batch 1: peak memory" in names
    said = capsys.readouterr().out
    assert ("pip install" in said) == bool(inference_peers.missing())
    assert ("OpenVINO / ours, fp32" in names) == (not inference_peers.missing())
    assert code == 0 and picture.read_bytes().startswith(b"\x89PNG")
