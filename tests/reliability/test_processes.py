"""What is equal over processes: normalisers, losses, gradients and evaluation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from engine.tiny_detector import write_scenes
from reliability import deadline, several
from torch import Tensor


def run_processes(folder: Path, processes: int, *wrong: int) -> tuple[list[dict], deadline.Done]:
    """What each of the processes found, and how the run ended."""
    for count in several.NUM_IMAGES:
        scenes = folder / f"scenes{count}"
        scenes.mkdir()
        write_scenes(scenes, count + 1)  # without the last image, which is empty
        file = scenes / "scenes.json"
        content = json.loads(file.read_text())
        content["images"] = content["images"][:count]
        file.write_text(json.dumps(content))
    done = deadline.run(several.__file__, "--num-gpus", processes, folder, *wrong)
    assert done.code == (2 if wrong else 0), done.out + done.err
    return [torch.load(folder / f"{rank}.pt") for rank in range(processes)], done


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pair")


@pytest.fixture(scope="module")
def run_of_two(folder: Path) -> tuple[list[dict], deadline.Done]:
    return run_processes(folder, 2, 1)


@pytest.fixture(scope="module")
def pair(run_of_two) -> list[dict]:
    return run_of_two[0]


@pytest.fixture(scope="module")
def alone() -> dict:
    """The same in one process with all images."""
    found = {}
    for name in several.MODELS:
        model = several.model_of(name)
        for batch in (batch for known, batch in several.cases() if known == name):
            found[name, batch] = several.learn(model, several.images_of(batch))
    return found


def test_every_process_knows_its_place(pair):
    assert [found["place"] for found in pair] == [(0, 0, 2, 2), (1, 1, 2, 2)]


def test_all_evaluate_with_the_running_statistics_of_the_first(pair):
    assert [found["running mean"].tolist() for found in pair] == [[1.0] * 3] * 2


@pytest.mark.parametrize("model, batch", several.cases())
def test_two_halves_teach_what_the_whole_batch_teaches(pair, alone, model, batch):
    """Losses are the means over processes, gradients equal; float64, so far below 1e-5."""
    expected_losses, expected = alone[model, batch]
    halves = [found[model, batch] for found in pair]
    for name, value in halves[0][1].items():
        assert torch.equal(value, halves[1][1][name]), f"{name} differs between processes"
    assert all(torch.isfinite(grad).all() for grad in halves[0][1].values())
    assert halves[0][1].keys() == expected.keys()
    if (model, batch) in several.INEXACT:  # but those of auxiliary heads are not
        names = [name for name in expected_losses if "/encoder/" in name]
        expected_losses = {k: expected_losses[k] for k in names if "faster_rcnn" not in k}
        assert bool(expected_losses) == (model in ("co", "co_rcnn"))
    else:
        assert furthest(halves[0][1], expected) < 1e-9
    if expected_losses:
        losses = {name: sum(half[0][name] for half in halves) / 2 for name in expected_losses}
        assert furthest(losses, expected_losses) < 1e-9


def furthest(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """Largest difference, relative to the largest value of all."""
    assert found.keys() == expected.keys()
    scale = max(value.abs().max() for value in expected.values())
    return float(max((found[name] - expected[name]).abs().max() for name in expected) / scale)


@pytest.mark.parametrize("count", several.NUM_IMAGES)
def test_evaluation_counts_every_image_once(pair, folder, count):
    """Five images in two processes, and one: the second process has none then."""
    expected, detections = several.evaluate(folder, count)
    (results, scored), (others, _) = (found["evaluation"][count] for found in pair)
    assert others == {}
    assert results["bbox"] == pytest.approx(expected["bbox"], nan_ok=True, rel=0, abs=0)
    assert 0 < results["bbox"]["AP"] <= 100
    assert sorted(entry["image_id"] for entry in scored) == list(range(count))
    assert scored == detections


def test_a_wrong_input_of_one_process_ends_both_in_one_line(run_of_two):
    """The other process waits for it; see test_machines.py for the other ways to fail."""
    err = run_of_two[1].err
    assert err.count("several.py (process 1 of 2): this value is wrong") == 1, err
    assert "Traceback" not in err


@pytest.mark.slow
def test_four_processes_of_one_image_each(tmp_path, alone, folder, pair):
    four, _ = run_processes(tmp_path, 4)
    assert [found["place"] for found in four] == [(rank, rank, 4, 4) for rank in range(4)]
    for model, batch in several.cases():
        if model not in several.FILLED:
            gradients = four[0][model, batch][1]
            assert furthest(gradients, alone[model, batch][1]) < 1e-9, (model, batch)
    for count in several.NUM_IMAGES:
        assert [found["evaluation"][count][0] for found in four[1:]] == [{}] * 3
        here, before = (found[0]["evaluation"][count] for found in (four, pair))
        assert here[1] == before[1]
        assert here[0]["bbox"] == pytest.approx(before[0]["bbox"], nan_ok=True, rel=0, abs=0)
